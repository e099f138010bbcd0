"""The results and errors of a process without capabilities."""

from __future__ import annotations

import ctypes
import os
import struct
import traceback
from collections.abc import Callable

from in_child import in_child


def unprivileged(function: Callable[[], object], missing: int | None = None) -> str:
    """What the function returns or raises in a fork that has dropped its capabilities, or the one that is missing."""

    def told() -> str:
        try:
            _drop_capabilities(missing)
            return repr(function())
        except BaseException as error:
            return "".join(traceback.format_exception_only(error))

    return in_child(told)


def _drop_capabilities(missing: int | None) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    version_3, held = struct.pack("=Ii", 0x20080522, 0), ctypes.create_string_buffer(24)  # linux/capability.h
    if missing is not None and libc.capget(version_3, held) == 0:  # effective, permitted, inheritable; of 32 bits each
        words = list(struct.unpack("=6I", held.raw))
        for each in range(3):
            words[missing // 32 * 3 + each] &= ~(1 << missing % 32)
        held.raw = struct.pack("=6I", *words)
    if libc.capset(version_3, held) != 0:
        raise RuntimeError(os.strerror(ctypes.get_errno()))
