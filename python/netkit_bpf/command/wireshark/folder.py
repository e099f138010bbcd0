# SPDX-License-Identifier: MIT
"""Where Wireshark looks for what lists interfaces, and the script there that starts this command."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from netkit_bpf.command.output import note

WHOSE = ("user", "system")
_NAME = "netkit-bpf"
_PLACES = {"user": r"Personal Extcap path", "system": r"(?:Global )?Extcap path"}  # with 4.0's name of it
# Wireshark asks each interface for the same at every start, and Python takes longer to start than to answer.
_HEAD = """#!/bin/sh
# Pairs of netkit devices in Wireshark: netkit-bpf extcap
"""
_SCRIPT = f"""{_HEAD}case " $* " in
{{answers}}esac
exec {{started}} "$@"
"""
_ASKED = ("tshark", "wireshark")


def install(whose: str, answers: Mapping[str, Sequence[str]]) -> None:
    """Write the script.

    Args:
        whose: folder it is; "auto" is the user's where there is one.
        answers: the lines that it prints itself, by the option that asks for them.
    """
    path = _folder(whose) / _NAME
    if os.path.lexists(path) and not _is_ours(path):
        raise FileExistsError(f"{path} is there already, and is not this command's")
    path.parent.mkdir(parents=True, exist_ok=True)
    started = shlex.join([sys.executable, "-m", "netkit_bpf", "extcap"])
    path.write_text(_SCRIPT.format(answers="".join(map(_answer, answers.items())), started=started))
    path.chmod(0o755)
    note(f"installed {path}: Wireshark lists pairs when it is started anew")


def uninstall(whose: str) -> None:
    """Remove the script that `install` wrote."""
    path = _folder(whose) / _NAME
    if not os.path.lexists(path):
        raise FileNotFoundError(f"there is no {path}: nothing to remove")
    if not _is_ours(path):
        raise FileExistsError(f"{path} is not this command's: it stays")
    path.unlink()
    note(f"removed {path}")


def _answer(answer: tuple[str, Sequence[str]]) -> str:
    option, lines = answer
    return f"*' {option} '*)\n\techo {shlex.quote(chr(10).join(lines))}\n\texit\n\t;;\n"


def _is_ours(path: Path) -> bool:
    """Whether `install` wrote it: nobody's own script begins so, nor is a link one, wherever it leads."""
    return path.is_file() and not path.is_symlink() and path.read_bytes().startswith(_HEAD.encode())


def _folder(whose: str) -> Path:
    folders = _folders()
    for each in (whose,) if whose in WHOSE else WHOSE:
        if each in folders:
            return folders[each]
    if folders:
        raise LookupError("this Wireshark has no folder for each user (4.2 is the first): --install system, as root")
    raise LookupError("Wireshark does not say where it looks for interfaces of others: see tshark -G folders")


def _folders() -> dict[str, Path]:
    """What Wireshark says: a line reads "Global Extcap path:", a tab, the path."""
    program = next((each for each in _ASKED if shutil.which(each)), None)
    if program is None:
        raise FileNotFoundError("there is no tshark and no wireshark: install one first")
    asked = subprocess.run([program, "-G", "folders"], capture_output=True, check=True)
    told = os.fsdecode(asked.stdout)
    found = {whose: re.search(rf"^{name}:\s*(\S.*)$", told, re.MULTILINE) for whose, name in _PLACES.items()}
    return {whose: Path(match[1]) for whose, match in found.items() if match}
