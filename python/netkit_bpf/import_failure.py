# SPDX-License-Identifier: MIT
"""Why the extension module does not load, and what to do about it. Imported only when it does not."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

_OLDEST = (3, 10)
_WITH_THIS = "install netkit-bpf with this interpreter: {} -m pip install netkit-bpf, or pip install . in a clone"
# What the dynamic loader says, and the cure.
_CURES = (
    (
        r"libbpf\.so\.1: cannot open shared object",
        "install libbpf 1.3 or later (the package libbpf1; on Debian 12 the one of bookworm-backports)",
    ),
    (
        r"version [`']?LIBBPF_|undefined symbol: (bpf|btf|libbpf|ring_buffer)_",
        "this libbpf is older than 1.3, the first that knows netkit: install a later one (on Debian 12 that of"
        " bookworm-backports)",
    ),
    (r"libnl-3\.so\S*: cannot open shared object", "install libnl-3 (the package libnl-3-200, or libnl3)"),
    (
        r"version [`']?(GLIBC|GLIBCXX|CXXABI)_",
        "this system's C or C++ library is older than the one that the extension was built with: use a system that is"
        " at least as new, or build netkit-bpf here (pip install . in a clone)",
    ),
    (r"cannot open shared object", "install the library, or a wheel that has it (make wheel in a clone)"),
    (r"undefined symbol: _?Py|dynamic module does not define", _WITH_THIS),
    (
        r"wrong ELF class|invalid ELF header|cannot open shared object file: Exec format",
        "it was built for another machine: " + _WITH_THIS,
    ),
)


def explain(error: ImportError, directories: Iterable[str]) -> str:
    """Return the message: the interpreter, the platform, the cause and the cure."""
    libc = f", {_libc()}" if _libc() else ""
    where = f"Python {platform.python_version()} ({sys.executable}) on {platform.system()} {platform.machine()}{libc}"
    return f"netkit_bpf's extension module does not load in {where}: {_cause(error, directories)}"


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return ""  # musl


def _cause(error: ImportError, directories: Iterable[str]) -> str:
    if sys.version_info < _OLDEST:
        return f"it needs Python {'.'.join(map(str, _OLDEST))} or later"
    text, with_this = str(error), _WITH_THIS.format(sys.executable)
    if error.name == "netkit_bpf" and "cannot import name '_core'" in text:
        places = [Path(each) for each in directories]
        others = sorted(path.name for place in places for path in place.glob("_core*.so"))
        if not others:
            return f"there is none in {', '.join(map(str, places))}. To mend it, {with_this}"
        return f"what is there is for another Python or machine, {', '.join(others)}, and this one takes _core" + (
            f"{EXTENSION_SUFFIXES[0]}. To mend it, {with_this}"
        )
    for pattern, cure in _CURES:
        if re.search(pattern, text):
            return f"{text}. To mend it, {cure.format(sys.executable)}"
    return text
