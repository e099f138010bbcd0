# SPDX-License-Identifier: MIT
"""Reads pcapng files block by block, and checks everything (draft-ietf-opsawg-pcapng)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SECTION, INTERFACE, STATISTICS, PACKET = 0x0A0D0D0A, 1, 5, 6
Options = dict[int, bytes]


class Interface(NamedTuple):
    snaplen: int
    options: Options


class Packet(NamedTuple):
    interface: int
    time_ns: int
    length: int
    data: bytes
    options: Options


class CaptureFile:
    """What is in a file of one section; an AssertionError says what is wrong with it."""

    def __init__(self, content: bytes | Path) -> None:
        self.section: Options | None = None
        self.interfaces: list[Interface] = []
        self.packets: list[Packet] = []
        self.statistics: dict[int, dict[int, int]] = {}  # by interface and option
        for kind, body in _blocks(content if isinstance(content, bytes) else content.read_bytes()):
            assert (self.section is None) == (kind == SECTION)
            if kind == SECTION:
                assert struct.unpack_from("=IHHq", body) == (0x1A2B3C4D, 1, 0, -1)
                self.section = _options(body[16:])
            elif kind == INTERFACE:
                link_type, reserved, snaplen = struct.unpack_from("=HHI", body)
                assert (link_type, reserved) == (1, 0)
                self.interfaces.append(Interface(snaplen, _options(body[8:])))
            elif kind == PACKET:
                self._add_packet(body)
            else:
                assert kind == STATISTICS
                number, _, _ = struct.unpack_from("=III", body)
                assert number not in self.statistics
                values = {code: _number(code, value) for code, value in _options(body[12:]).items()}
                self.statistics[number] = values

    def _add_packet(self, body: bytes) -> None:
        interface, high, low, captured, length = struct.unpack_from("=IIIII", body)
        assert interface < len(self.interfaces)
        snaplen = self.interfaces[interface].snaplen or captured  # 0: not told
        assert captured == min(length, snaplen)
        end = 20 + captured
        padded = end + -end % 4
        assert not any(body[end:padded])
        self.packets.append(Packet(interface, high << 32 | low, length, body[20:end], _options(body[padded:])))


def _blocks(content: bytes) -> Iterator[tuple[int, bytes]]:
    while content:
        kind, length = struct.unpack_from("=II", content)
        assert length % 4 == 0
        assert 12 <= length <= len(content)
        assert struct.unpack_from("=I", content, length - 4) == (length,)
        yield kind, content[8 : length - 4]
        content = content[length:]


def _options(body: bytes) -> Options:
    found: Options = {}
    while True:
        code, length = struct.unpack_from("=HH", body)
        if code == 0:
            assert (length, len(body)) == (0, 4)
            return found
        padded = length + -length % 4
        assert code not in found
        assert not any(body[4 + length : 4 + padded])
        found[code] = body[4 : 4 + length]
        body = body[4 + padded :]


def _number(code: int, value: bytes) -> int:
    """Times are two halves, the upper one first."""
    first, second = struct.unpack("=II", value)
    number: int = first << 32 | second if code in (2, 3) else second << 32 | first
    return number
