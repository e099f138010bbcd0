"""Private namespaces of the test run, in which everything was made by the tests."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from pytest_netkit_bpf.roots import own_namespaces

_CLONE_NEWNS, _CLONE_NEWNET = 0x20000, 0x40000000
_MS_REC, _MS_PRIVATE, _MS_SHARED = 0x4000, 1 << 18, 1 << 20
_KINDS = {"net": "net", "mount": "mnt"}
_NAMES = ("/run/netns", "/run/netkit-bpf")
_BPFFS = "/sys/fs/bpf"
_libc = ctypes.CDLL(None, use_errno=True)

# Descriptors of the machine's namespaces and of the directory that is the root there, as nsenter(1) calls them: "net",
# "mount" and "root".
outside: dict[str, int] = {}


def enter() -> None:
    """Move this process out of the machine's network and mount namespaces, if it may; otherwise do nothing.

    Then there are no devices but lo, no named network namespaces and no pins, and those of others on the machine are
    not visible.
    """
    found = {name: os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for name, kind in _KINDS.items()}
    found["root"] = os.open("/", os.O_PATH | os.O_DIRECTORY)  # in a chroot not that of the mount namespace
    if _libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET) != 0:
        for fd in found.values():
            os.close(fd)
        return
    outside.update(found)
    own_namespaces.update(os.readlink(f"/proc/self/ns/{kind}") for kind in _KINDS.values())
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    for place in _NAMES:
        Path(place).mkdir(exist_ok=True)
        _mount(b"tmpfs", place, b"tmpfs", 0)
        _mount(None, place, None, _MS_SHARED)  # as ip-netns(8) makes it
    if Path(_BPFFS).is_dir():
        _mount(b"bpf", _BPFFS, b"bpf", 0)


def _mount(source: bytes | None, place: str, kind: bytes | None, flags: int) -> None:
    if _libc.mount(source, os.fsencode(place), kind, flags, None) != 0:
        raise OSError(ctypes.get_errno(), f"mount {place}: {os.strerror(ctypes.get_errno())}")
