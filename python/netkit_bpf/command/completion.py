# SPDX-License-Identifier: MIT
"""netkit-bpf completion: what a shell needs to complete command lines."""

from __future__ import annotations

import argparse

from netkit_bpf.command.output import say_json


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    completion = commands.add_parser(
        "completion",
        help="print what bash, zsh or fish needs to complete command lines",
        description="Print a script that completes command lines, made by shtab (pip install 'netkit-bpf[completion]')."
        " For bash: netkit-bpf completion bash > /etc/bash_completion.d/netkit-bpf; for zsh as _netkit-bpf in a folder"
        " of fpath; for fish in ~/.config/fish/completions/netkit-bpf.fish.",
    )
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))

    completion.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from netkit_bpf.command import make_parser  # which imports all the others

    try:
        import shtab
    except ImportError:
        raise LookupError("completion needs shtab: pip install shtab, or 'netkit-bpf[completion]'") from None
    say_json(shtab.complete(make_parser(), arguments.shell).rstrip("\n"))
    return 0
