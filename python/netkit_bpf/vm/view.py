# SPDX-License-Identifier: MIT
"""What the guest sees of the host: a read-only view of its root, and the share, in a mount namespace of their own."""

from __future__ import annotations

import ctypes
import os
import signal
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
_CLONE_NEWUSER = 0x10000000
_AT_EMPTY_PATH, _OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH = 0x1000, 1, 4
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT = 428, 429
_MOUNT_ATTR_IDMAP = 1 << 20
_IDS = 1 << 32


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
    _checked(_set_attributes(_AT_FDCWD, str(view), _MOUNT_ATTR_RDONLY), "make the view read-only")
    return view


def for_its_owner(directory: Path) -> Path:
    """The directory where root in the guest is its owner, who then owns what the guest writes there.

    A mount that exchanges the two; in the namespace of make(). Where its file system has no such mounts it is the
    directory itself, and what the guest writes is root's.
    """
    found = directory.stat()
    if found.st_uid == 0:
        return directory
    target = SCRATCH / "owned"
    target.mkdir()
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_RECURSIVE
    tree = _syscall(_SYS_OPEN_TREE, _AT_FDCWD, str(directory), flags)
    if tree < 0:
        return directory
    users = _exchanging(found.st_uid, found.st_gid)
    try:
        if users is None or _set_attributes(tree, "", _MOUNT_ATTR_IDMAP, users):
            return directory
        moved = _syscall(_SYS_MOVE_MOUNT, tree, "", _AT_FDCWD, str(target), _MOVE_MOUNT_F_EMPTY_PATH)
        return directory if moved else target
    finally:
        for fd in (tree, users):
            if fd is not None:
                os.close(fd)


def _exchanging(user: int, group: int) -> int | None:
    """A user namespace in which root and a user, and their groups, have each other's numbers; None without such."""
    child = os.fork()
    if child == 0:
        if _libc.unshare(_CLONE_NEWUSER) == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(1)
    if not os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1]):
        return None
    try:
        for name, one in (("uid_map", user), ("gid_map", group)):
            lines = [(0, one, 1), (1, 1, one - 1), (one, 0, 1), (one + 1, one + 1, _IDS - 2 - one)] if one else []
            text = "\n".join(f"{inside} {outside} {count}" for inside, outside, count in lines if count > 0)
            Path(f"/proc/{child}/{name}").write_text(text or f"0 0 {_IDS - 1}")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY)
    except OSError:  # no user namespaces here
        return None
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _set_attributes(fd: int, path: str, attributes: int, users: int = 0) -> int:
    # struct mount_attr: attr_set, attr_clr, propagation, userns_fd
    given = struct.pack("=4Q", attributes, 0, 0, users)
    flags = _AT_RECURSIVE | (0 if path else _AT_EMPTY_PATH)
    return _syscall(_SYS_MOUNT_SETATTR, fd, path, flags, given, len(given))


def _syscall(number: int, *arguments: int | str | bytes) -> int:
    words = [each.encode(errors="surrogateescape") if isinstance(each, str) else each for each in arguments]
    converted = [each if isinstance(each, bytes) else ctypes.c_long(each) for each in words]
    return int(_libc.syscall(ctypes.c_long(number), *converted))
