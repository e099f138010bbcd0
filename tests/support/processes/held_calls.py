"""System calls that wait until a test lets them continue, so that every race is won: seccomp_unotify(2)."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import queue
import select
import struct
import threading
from collections.abc import Callable
from typing import NamedTuple, TypeVar

_T = TypeVar("_T")


class Call(NamedTuple):
    """A system call, or only those with a first argument."""

    number: int
    first_argument: int | None = None


_AARCH64 = platform.machine() == "aarch64"
BPF_SYSCALL, _RECVMSG, _SECCOMP = (280, 212, 277) if _AARCH64 else (321, 47, 317)
RECVMSG = Call(_RECVMSG)
LINK_CREATE = Call(BPF_SYSCALL, 28)
OBJ_GET_INFO_BY_FD = Call(BPF_SYSCALL, 15)

_SET_MODE_FILTER, _NEW_LISTENER = 1, 1 << 3
_ALLOW, _USER_NOTIF = 0x7FFF0000, 0x7FC00000
_NOTIF_RECV, _NOTIF_SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
_NUMBER_AT, _FIRST_ARGUMENT_AT = 0, 16  # in struct seccomp_data
_libc = ctypes.CDLL(None, use_errno=True)


def run_with_held_calls(function: Callable[[], _T], held: Call, meanwhile: Callable[[], object]) -> _T:
    """Call the function on a thread of its own, and return what it returns or raise what it raises.

    Before each of these calls by the thread, or by a thread that it starts, `meanwhile` is called; then the call
    continues. A call that is made with the GIL cannot be held. Returns when all of these threads have ended.
    """
    listeners: queue.SimpleQueue[int | OSError] = queue.SimpleQueue()
    outcome: list[_T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            listeners.put(_hold(held))
        except OSError as error:
            listeners.put(error)
            return
        try:
            outcome.append(function())
        except BaseException as error:
            errors.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    listener = listeners.get()
    if isinstance(listener, OSError):
        worker.join()
        raise listener
    try:
        _serve(listener, meanwhile)
    finally:
        os.close(listener)  # what is held fails now, if anything is
        worker.join()
    if errors:
        raise errors.pop()
    return outcome.pop()


def _hold(held: Call) -> int:
    """Make the calling thread, and all that it starts, wait at the calls; return the descriptor that releases them."""
    wanted = [(_NUMBER_AT, held.number)]
    if held.first_argument is not None:
        wanted.append((_FIRST_ARGUMENT_AT, held.first_argument))
    code = b""
    for place, (offset, value) in enumerate(wanted):
        rest = 2 * (len(wanted) - place - 1)
        code += struct.pack("=HBBI", 0x20, 0, 0, offset)  # ld [offset]
        code += struct.pack("=HBBI", 0x15, 0, rest + 1, value)  # jeq value, next, allow
    code += struct.pack("=HBBI", 0x06, 0, 0, _USER_NOTIF) + struct.pack("=HBBI", 0x06, 0, 0, _ALLOW)
    instructions = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(instructions)))
    listener: int = _libc.syscall(_SECCOMP, _SET_MODE_FILTER, _NEW_LISTENER, program)
    if listener < 0:
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")
    return listener


def _serve(listener: int, meanwhile: Callable[[], object]) -> None:
    ready = select.poll()
    ready.register(listener, select.POLLIN)
    while True:
        events = ready.poll()
        if events[0][1] & select.POLLHUP:  # the threads have ended
            return
        notification = bytearray(80)
        try:
            fcntl.ioctl(listener, _NOTIF_RECV, notification)
            meanwhile()
            response = struct.pack("=QqiI", struct.unpack_from("=Q", notification)[0], 0, 0, _CONTINUE)
            fcntl.ioctl(listener, _NOTIF_SEND, bytearray(response))
        except OSError as error:
            if error.errno != errno.ENOENT:  # a signal came to the thread: it asks again
                raise
