# SPDX-License-Identifier: MIT
"""netkit-bpf vm jupyter: notebooks under a kernel that has netkit."""

from __future__ import annotations

import argparse
import importlib.util
import socket
import sys
from pathlib import Path
from urllib.parse import quote

from netkit_bpf.command.vm.guest import FOR_EVER, add_machine, boot, port_number
from netkit_bpf.vm.words import GUEST_ADDRESS

_PORT = 8888  # Jupyter's own, and in the guest


def add_to(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = actions.add_parser(
        "jupyter",
        help="JupyterLab, for this machine's browser",
        description="Run JupyterLab under another kernel. It prints the address for a browser on this machine; no other"
        " machine reaches it. What is saved below the directory stays; whatever else is changed is discarded at the"
        " end, which is Ctrl-C. Needs JupyterLab, and root or sudo.",
    )
    parser.add_argument(
        "notebook",
        nargs="?",
        type=_existing,
        default=Path(),
        help="a notebook, or a directory (default: the current one)",
    )
    add_machine(parser)
    parser.add_argument(
        "--port", type=port_number, metavar="N", help=f"of this machine (default: the first free from {_PORT})"
    )
    parser.set_defaults(run=_run)


def _existing(text: str) -> Path:
    path = Path(text)
    if not path.exists():
        raise argparse.ArgumentTypeError(f"there is no {text!r}; without one, JupyterLab begins in this directory")
    return path


def _run(arguments: argparse.Namespace) -> int:
    if importlib.util.find_spec("jupyterlab") is None:
        raise argparse.ArgumentError(None, f"JupyterLab is missing: {sys.executable} -m pip install jupyterlab")
    chosen = arguments.notebook.resolve()
    directory = arguments.share.resolve() if arguments.share else chosen if chosen.is_dir() else chosen.parent
    if not chosen.is_relative_to(directory):
        raise argparse.ArgumentError(None, f"{arguments.notebook} is not below the directory of --share")
    arguments.share = directory
    port = arguments.port or _free_port({here for here, _ in arguments.publish})
    arguments.publish.append((port, _PORT))
    # It prints the address with a token of its own making, once it runs.
    options = {
        "ServerApp.ip": GUEST_ADDRESS,
        "ServerApp.port": str(_PORT),
        "ServerApp.port_retries": "0",
        "ServerApp.allow_root": "True",
        "ServerApp.open_browser": "False",
        "ServerApp.root_dir": str(directory),
        "LabApp.default_url": f"/lab/tree/{quote(str(chosen.relative_to(directory)))}"
        if chosen != directory
        else "/lab",
        "ServerApp.custom_display_url": f"http://127.0.0.1:{port}",
    }
    words = [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())]
    return boot(arguments, words, timeout=FOR_EVER)


def _free_port(taken: set[int]) -> int:
    for port in range(_PORT, _PORT + 100):
        if port in taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise argparse.ArgumentError(None, f"no port from {_PORT} on is free: choose one with --port")
