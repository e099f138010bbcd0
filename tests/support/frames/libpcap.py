# SPDX-License-Identifier: MIT
"""libpcap's own interpreter of filters: what a filter in the kernel must agree with."""

from __future__ import annotations

import ctypes
import ctypes.util
from types import TracebackType

from elsewhere import need

_ETHERNET = 1  # DLT_EN10MB
_LONGEST = 262144
_NETMASK_UNKNOWN = 0xFFFFFFFF


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.c_void_p))


class _Header(ctypes.Structure):
    _fields_ = (
        ("seconds", ctypes.c_long),
        ("microseconds", ctypes.c_long),
        ("captured", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
    )


class OfflineFilter:
    """An expression, and which frames it matches."""

    def __init__(self, expression: str) -> None:
        need("libpcap")
        found = ctypes.util.find_library("pcap")
        if found is None:  # CDLL(None) would be this program itself
            raise FileNotFoundError("the system has no libpcap to compare with: install libpcap0.8")
        self._pcap = ctypes.CDLL(found)
        self._pcap.pcap_open_dead.restype = ctypes.c_void_p
        self._pcap.pcap_geterr.restype = ctypes.c_char_p
        handle = ctypes.c_void_p(self._pcap.pcap_open_dead(_ETHERNET, _LONGEST))
        self._program = _Program()
        try:
            if self._pcap.pcap_compile(
                handle, ctypes.byref(self._program), expression.encode(), 1, ctypes.c_uint(_NETMASK_UNKNOWN)
            ):
                raise ValueError(self._pcap.pcap_geterr(handle).decode())
        finally:
            self._pcap.pcap_close(handle)

    def matches(self, frame: bytes) -> bool:
        header = _Header(0, 0, len(frame), len(frame))
        return bool(self._pcap.pcap_offline_filter(ctypes.byref(self._program), ctypes.byref(header), frame))

    def __enter__(self) -> OfflineFilter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pcap.pcap_freecode(ctypes.byref(self._program))
