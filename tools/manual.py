"""Writes the manual page of the command, and what shells need to complete it; the build does, for share/ of the wheel.

Usage: python tools/manual.py EXTENSION DIRECTORY [VERSION]

EXTENSION is the extension module that was just built: the package is not installed yet, and the parser knows from it
what the kernel calls things.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import shtab
from argparse_manpage.manpage import Manpage

_EXTENSION = "netkit_bpf._core"
_NAMES = {"bash": "netkit-bpf", "zsh": "_netkit-bpf", "fish": "netkit-bpf.fish"}  # where shells look for them
_SEE_ALSO = "bpftool-net(8), bpftool-prog(8), ip-link(8), ip-netns(8), pcap-filter(7), tcpdump(8), wireshark(1)"


def main(extension: str, directory: str, version: str = "") -> None:
    spec = importlib.util.spec_from_file_location(_EXTENSION, extension)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{extension} is not an extension module")
    sys.modules[_EXTENSION] = core = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(core)
    sys.path.insert(0, str(Path(__file__).parents[1] / "python"))
    from netkit_bpf.command import make_parser

    place = Path(directory)
    place.mkdir(parents=True, exist_ok=True)
    for shell, name in _NAMES.items():
        (place / name).write_text(shtab.complete(make_parser(), shell))
    parser = make_parser()
    parser._manpage = [  # type: ignore[attr-defined] # where argparse-manpage looks for more sections
        {"heading": "exit status", "content": str(parser.epilog).removeprefix("Exit status: ")},
        {"heading": "see also", "content": _SEE_ALSO},
    ]
    parser.epilog = None
    data = {"version": version, "project_name": "netkit-bpf", "manual_title": "User Commands",
            "description": "Linux netkit devices and their eBPF hooks"}  # fmt: skip
    (place / "netkit-bpf.1").write_text(str(Manpage(parser, data)))


if __name__ == "__main__":
    main(*sys.argv[1:])
