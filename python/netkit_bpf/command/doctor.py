# SPDX-License-Identifier: MIT
"""What this machine has of what the package uses, and what to do about the rest."""

from __future__ import annotations

import gzip
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from netkit_bpf._core import compile_filter
from netkit_bpf.devices.netns import NetNS
from netkit_bpf.devices.pair import NetkitPair
from netkit_bpf.errors import NotSupportedError
from netkit_bpf.functions.monitor import probe_load

_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_BPF": 39}  # capabilities(7)


class Finding(NamedTuple):
    """One item of the examination.

    Attributes:
        item: what was looked at.
        ok: whether it is there; None where this cannot be told.
        needed: whether the monitor needs it.
        text: what was found, and what to do if it is not there.
    """

    item: str
    ok: bool | None
    needed: bool
    text: str

    def __str__(self) -> str:
        mark = {True: "ok", False: "missing" if self.needed else "no", None: "unknown"}[self.ok]
        return f"{self.item:<10} {mark:<8} {self.text}"


def examine() -> Iterator[Finding]:
    """Look at each item in turn. Leaves nothing behind: probes are made in a namespace of their own."""
    for item, needed, look in _ITEMS:
        ok, text = look()
        yield Finding(item, ok, needed, text)


def _kernel() -> tuple[bool, str]:
    release = platform.release()
    major, minor = (int(part) for part in release.split("-")[0].split(".")[:2])
    if (major, minor) < (6, 7):
        return False, f"Linux {release}; netkit needs 6.7 or later: boot a newer kernel"
    if release.startswith(("6.11.0", "6.11.1")) and release[6:7] in {"", "-"}:
        return True, f"Linux {release}; programs on netkit devices could crash the kernel before 6.11.2: update it"
    return True, f"Linux {release}"


def _privilege() -> tuple[bool, str]:
    effective = 0
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
    missing = [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]
    if missing:
        return False, f"without {', '.join(missing)}: run as root, or with sudo"
    return True, ", ".join(_CAPABILITIES)


def _netkit() -> tuple[bool | None, str]:
    try:
        with NetNS.create() as ns, NetkitPair.create("probe", netns=ns):
            return True, "a pair was made and removed in a namespace of its own"
    except PermissionError:
        return _netkit_from_config()
    except NotSupportedError:
        return False, f"Linux {platform.release()} has no netkit devices: boot 6.7 or later built with CONFIG_NETKIT=y"
    except OSError as error:
        return None, f"{error.strerror}"


def _netkit_from_config() -> tuple[bool | None, str]:
    """What the kernel's configuration says, for those who may not make a device."""
    for path, opener in ((f"/boot/config-{platform.release()}", open), ("/proc/config.gz", gzip.open)):
        try:
            with opener(path, "rt") as config:
                found = "CONFIG_NETKIT=y\n" in config
        except OSError:
            continue
        return found, f"CONFIG_NETKIT is {'set' if found else 'not set'} in {path}"
    return None, "cannot be told without privilege: run netkit-bpf doctor as root"


def _load() -> tuple[bool, str]:
    try:
        probe_load()
    except OSError as error:
        return False, f"{error.strerror}"
    return True, "the monitor's programs load"


def _btf() -> tuple[bool, str]:
    path = Path("/sys/kernel/btf/vmlinux")
    if path.exists():
        return True, str(path)
    return False, f"no {path}: programs that read kernel structures do not load; the monitor does"


def _bpffs() -> tuple[bool, str]:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, target, kind, *_ = line.split()
        if kind == "bpf":
            return True, f"mounted at {target}"
    return False, "pinning needs it: mount -t bpf bpf /sys/fs/bpf"


def _libpcap() -> tuple[bool, str]:
    try:
        compile_filter("")
    except OSError as error:
        return False, f"{error.strerror}"
    return True, "filters can be compiled"


def _clang() -> tuple[bool, str]:
    path = shutil.which("clang")
    if path is None:
        return False, "compiling programs of your own needs it: install the package clang"
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    return True, version.splitlines()[0] if version else path


_ITEMS: list[tuple[str, bool, Callable[[], tuple[bool | None, str]]]] = [
    ("kernel", True, _kernel),
    ("privilege", True, _privilege),
    ("netkit", True, _netkit),
    ("BPF", True, _load),
    ("BTF", False, _btf),
    ("bpffs", False, _bpffs),
    ("libpcap", False, _libpcap),
    ("clang", False, _clang),
]


_ADVICE = """netkit-bpf monitor cannot run here; see above.
In a clone of the project, make demo and make vm run it in a virtual machine."""


def main() -> int:
    """Print one line an item; the status is 0 if the monitor can run here, else 1."""
    runs = True
    for finding in examine():
        print(finding)
        runs = runs and not (finding.needed and finding.ok is not True)
    print("netkit-bpf monitor can run here." if runs else _ADVICE)
    return 0 if runs else 1
