"""The results and errors of a process without capabilities."""

from __future__ import annotations

import ctypes
import os
import struct
import traceback
from collections.abc import Callable

from in_child import in_child


def unprivileged(function: Callable[[], object]) -> str:
    """What the function returns or raises in a fork that has dropped its capabilities."""

    def told() -> str:
        try:
            _drop_capabilities()
            return repr(function())
        except BaseException as error:
            return "".join(traceback.format_exception_only(error))

    return in_child(told)


def _drop_capabilities() -> None:
    version_3, none = struct.pack("=Ii", 0x20080522, 0), bytes(24)  # linux/capability.h
    if ctypes.CDLL(None, use_errno=True).capset(version_3, none) != 0:
        raise RuntimeError(os.strerror(ctypes.get_errno()))
