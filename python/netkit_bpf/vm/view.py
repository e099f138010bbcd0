# SPDX-License-Identifier: MIT
"""A read-only view of the host's root, in a mount namespace that dies with the process."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

# Each runner has a mount namespace, so each sees its own file system here and no two meet.
SCRATCH = Path("/run/netkit-bpf-vm")

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNS = 0x00020000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 1 << 18
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_SYS_MOUNT_SETATTR = 442
_MOUNT_ATTR_RDONLY = 1


class ViewError(Exception):
    """The view cannot be made; the text says what to do."""


def _checked(result: int, what: str) -> None:
    if result:
        reason = os.strerror(ctypes.get_errno())
        raise ViewError(f"{what}: {reason}; the VM runner needs root with CAP_SYS_ADMIN, on Linux 5.12 or later")


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    texts = [None if text is None else text.encode() for text in (source, target, kind, data)]
    _checked(_libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3]), f"mount {target}")


def make() -> Path:
    """Move this process to a private mount namespace and return the view's path in it.

    Also makes SCRATCH a file system of its own: its content is gone when the last process of the namespace ends,
    however it ends.
    """
    SCRATCH.mkdir(parents=True, exist_ok=True)
    _checked(_libc.unshare(_CLONE_NEWNS), "unshare the mount namespace")
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", str(SCRATCH), "tmpfs", 0, "mode=700")
    view = SCRATCH / "root"
    view.mkdir()
    _mount("/", str(view), None, _MS_BIND | _MS_REC)
    # struct mount_attr: attr_set, attr_clr, propagation, userns_fd
    attributes = struct.pack("=4Q", _MOUNT_ATTR_RDONLY, 0, 0, 0)
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        str(view).encode(),
        ctypes.c_uint(_AT_RECURSIVE),
        attributes,
        ctypes.c_size_t(len(attributes)),
    )
    _checked(result, "make the view read-only")
    return view
