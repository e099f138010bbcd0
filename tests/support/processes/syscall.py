# SPDX-License-Identifier: MIT
"""The part of bpf(2) for tests that make their own programs, instruction by instruction."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

_NUMBER = {"x86_64": 321, "aarch64": 280}[platform.machine()]
_MAP_CREATE, _MAP_UPDATE, _PROG_LOAD, _PROG_ATTACH, _TEST_RUN, _MAP_FREEZE = 0, 2, 5, 8, 10, 22
_SCHED_CLS = 3
_TCX_INGRESS = 46
_ROOM = 1 << 17
ARRAY, PROG_ARRAY = 2, 3
ANY_HOOK = 0  # an attach type; a program is called by a tail call only from one of its own
_libc = ctypes.CDLL(None, use_errno=True)

Instruction = bytes


def instruction(code: int, dst: int = 0, src: int = 0, offset: int = 0, immediate: int = 0) -> Instruction:
    """Encode one (Documentation/bpf/standardization/instruction-set.rst)."""
    return struct.pack("=BBhi", code, src << 4 | dst, offset, immediate)


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, 128)
    result: int = _libc.syscall(_NUMBER, command, buffer, len(buffer))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"bpf command {command}: {os.strerror(ctypes.get_errno())}")
    return result


@contextmanager
def loaded(instructions: Sequence[Instruction], attach_type: int) -> Iterator[int]:
    """Load a program; its descriptor is closed at the end."""
    code = ctypes.create_string_buffer(b"".join(instructions))
    license_name = ctypes.create_string_buffer(b"Dual MIT/GPL")
    attributes = struct.pack(
        "=IIQQIIQII16sII",
        *(_SCHED_CLS, len(instructions), ctypes.addressof(code), ctypes.addressof(license_name)),
        *(0, 0, 0, 0, 0, b"test", 0, attach_type),
    )
    fd = _bpf(_PROG_LOAD, attributes)
    try:
        yield fd
    finally:
        os.close(fd)


def attach_without_link(program: int, ifindex: int) -> None:
    """Attach a program to a device's tcx ingress hook without a link, as some tools do."""
    _bpf(_PROG_ATTACH, struct.pack("=IIII", ifindex, program, _TCX_INGRESS, 0))


def freeze(map_: int) -> None:
    """Make a map read-only, except for programs."""
    _bpf(_MAP_FREEZE, struct.pack("=I", map_))


@contextmanager
def array(kind: int, value: bytes) -> Iterator[int]:
    """Make an array of one value of four bytes; its descriptor is closed at the end."""
    fd = _bpf(_MAP_CREATE, struct.pack("=IIIII", kind, 4, 4, 1, 0))
    try:
        key, data = ctypes.create_string_buffer(4), ctypes.create_string_buffer(value, 4)
        _bpf(_MAP_UPDATE, struct.pack("=IIQQQ", fd, 0, ctypes.addressof(key), ctypes.addressof(data), 0))
        yield fd
    finally:
        os.close(fd)


class Runner:
    """Runs a program on frames."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._out = ctypes.create_string_buffer(_ROOM)

    def __call__(self, frame: bytes) -> int:
        """Return what the program returns; OSError when the kernel refuses the frame."""
        data = ctypes.create_string_buffer(frame, len(frame))
        attributes = struct.pack(
            "=IIIIQQII", self._fd, 0, len(frame), _ROOM, ctypes.addressof(data), ctypes.addressof(self._out), 1, 0
        )
        buffer = ctypes.create_string_buffer(attributes, 80)
        if _libc.syscall(_NUMBER, _TEST_RUN, buffer, len(buffer)) < 0:
            raise OSError(ctypes.get_errno(), f"run a program: {os.strerror(ctypes.get_errno())}")
        verdict: int = struct.unpack_from("=i", buffer.raw, 4)[0]
        return verdict


@contextmanager
def behind_a_tag(program: int, protocol: int, tci: int) -> Iterator[Callable[[bytes], int]]:
    """Run a program on frames whose tag is beside them, which bpf_skb_vlan_push() makes."""
    swapped = struct.unpack("=H", struct.pack("!H", protocol))[0]
    with array(PROG_ARRAY, struct.pack("=i", program)) as programs:
        push = [
            instruction(0xBF, 6, 1),  # r6 = context
            instruction(0xB7, 2, immediate=swapped),
            instruction(0xB7, 3, immediate=tci),
            instruction(0x85, immediate=18),  # bpf_skb_vlan_push
            instruction(0xBF, 1, 6),
            instruction(0x18, 2, 1, immediate=programs),  # r2 = the map
            instruction(0),
            instruction(0xB7, 3),
            instruction(0x85, immediate=12),  # bpf_tail_call
            instruction(0xB7, 0, immediate=99),
            instruction(0x95),
        ]
        with loaded(push, ANY_HOOK) as fd:
            yield Runner(fd)
