# SPDX-License-Identifier: MIT
"""Reading capture files: pcapng (draft-ietf-opsawg-pcapng) and pcap (draft-ietf-opsawg-pcap)."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from netkit_bpf._core import parse_packets
from netkit_bpf.enums import Side
from netkit_bpf.events.batch import EventBatch
from netkit_bpf.internal.resource import Closing

_SECTION, _INTERFACE, _PACKET_OBSOLETE, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6
_IF_NAME, _IF_DESCRIPTION, _IF_TSRESOL, _IF_TSOFFSET = 2, 3, 9, 14
_EPB_FLAGS = 2
_PCAP = {0xA1B2C3D4: 1000, 0xA1B23C4D: 1}  # nanoseconds of a unit of time
_LARGEST = 1 << 24  # bytes of a block: what is larger is damaged
_MOST = 1024  # packets in a batch
_ETHERNET, _RAW, _NULL, _LOOP, _SLL, _IPV4, _IPV6, _SLL2 = 1, 101, 0, 108, 113, 228, 229, 276
_NO_MAC = bytes(6)
_RECEIVED = tuple(kind.to_bytes(2, "big") for kind in range(4))  # packet types, linux/if_packet.h; 4 is what was sent


class _Interface(NamedTuple):
    link: int
    pair: int  # its number in the names
    side: int
    unit: tuple[int, int]  # of time: nanoseconds are units * first // second
    offset_ns: int
    snaplen: int  # 0: all of each packet was captured


class _Packet(NamedTuple):
    interface: _Interface
    timestamp_ns: int
    length: int
    data: bytes
    inbound: bool


class CaptureFile(Closing):
    """Reads a capture file as batches of packet events: what `Monitor.capture` wrote, or any pcapng or pcap file.

    The packets are parsed as the monitor's programs do it, in this process, without the kernel. From a file of this
    package, events have their pair and side again. In other files `pair_name` is empty, and the side is the peer for a
    packet that the file says was received, else the primary: most do not tell. Names of interfaces are not kept. Frames
    are Ethernet; raw IP and Linux's cooked captures (of tcpdump -i any) get an Ethernet header of zeros.

    One thread at a time may use it.

    Args:
        source: a path, or a binary file, which is read from its current position and left open.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a capture file; while reading: it is damaged, or has another kind of link.

    >>> with CaptureFile("ping.pcapng") as file:  # doctest: +SKIP
    ...     for batch in file:
    ...         for event in batch:
    ...             print(event)
    """

    def __init__(self, source: str | os.PathLike[str] | BinaryIO) -> None:
        self._owned = isinstance(source, (str, os.PathLike))
        self._closed = False
        if isinstance(source, (str, os.PathLike)):
            self._name = os.fspath(source)
            self._file: BinaryIO = open(source, "rb")  # noqa: PTH123, SIM115 - closed below
        else:
            self._name = str(getattr(source, "name", "the file"))
            self._file = source
        self._order = "<"
        self._names: list[str] = []
        self._interfaces: list[_Interface] = []
        try:
            self._packets = self._begin()
        except BaseException:
            self.close()
            raise
        # A pipe may be written meanwhile: each packet counts at once.
        self._most = _MOST if self._is_regular() else 1

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """Close the file if it was opened here. Idempotent."""
        self._closed = True
        if self._owned:
            self._file.close()

    def __iter__(self) -> Iterator[EventBatch]:
        """Give the packets that are left, in batches. What comes before a fault is given before the error is raised."""
        rest: list[tuple[bytes, int, int, int, int]] = []
        try:
            for packet in self._packets:
                rest.append(self._row(packet))
                if len(rest) >= self._most:
                    yield self._batch(rest)
                    rest = []
        except ValueError:
            if rest:
                yield self._batch(rest)
            raise
        if rest:
            yield self._batch(rest)

    @staticmethod
    def _time(nanoseconds: int) -> int:
        """Leave out times that do not fit, of which only damaged files have any."""
        return nanoseconds if 0 <= nanoseconds < 1 << 63 else 0

    def _batch(self, rows: list[tuple[bytes, int, int, int, int]]) -> EventBatch:
        return EventBatch._of(parse_packets(rows, tuple(self._names)))

    def _row(self, packet: _Packet) -> tuple[bytes, int, int, int, int]:
        data, length = _as_ethernet(packet.interface.link, packet.data, packet.length, self._name)
        is_inbound = packet.inbound or _is_received(packet.interface.link, packet.data)
        side = Side.PEER.number if is_inbound else packet.interface.side
        return data, length, self._time(packet.timestamp_ns), side, packet.interface.pair

    def _begin(self) -> Iterator[_Packet]:
        magic = self._read(4, "its first bytes")
        for order in "<>":
            (number,) = struct.unpack(f"{order}I", magic)
            if number in _PCAP:
                self._order = order
                return self._pcap(_PCAP[number])
        if magic == _SECTION.to_bytes(4, "little"):
            self._section()
            return self._pcapng()
        raise ValueError(f"{self._name} is neither a pcapng nor a pcap file")

    def _pcap(self, unit: int) -> Iterator[_Packet]:
        _, _, _, link = self._unpack("HH8xII", self._read(20, "its header"))
        self._names = [""]
        interface = _Interface(link & 0xFFFF, 0, Side.PRIMARY.number, (unit, 1), 0, 0)
        while header := self._read(16, "the header of a packet", may_end=True):
            seconds, fraction, captured, length = self._unpack("IIII", header)
            self._check_size(captured)
            data = self._read(captured, "a packet")
            yield _Packet(interface, seconds * 10**9 + fraction * unit, length, data, False)

    def _pcapng(self) -> Iterator[_Packet]:
        while head := self._read(4, "the type of a block", may_end=True):
            if head == _SECTION.to_bytes(4, "little"):  # the same in both byte orders
                self._section()
                continue
            (kind,) = self._unpack("I", head)
            (size,) = self._unpack("I", self._read(4, "the size of a block"))
            body = self._body(size, 8)
            if kind == _INTERFACE:
                self._interfaces.append(self._interface(body))
            elif kind == _ENHANCED:
                yield self._with_time(body, "I")
            elif kind == _PACKET_OBSOLETE:
                yield self._with_time(body, "H2x")  # and a count of drops
            elif kind == _SIMPLE:
                (length,) = self._fields("I", body, "a packet")
                interface = self._numbered(0)
                yield _Packet(interface, 0, length, body[4 : 4 + min(length, interface.snaplen or length)], False)

    def _section(self) -> None:
        """Begin a section, whose first four bytes were read: the next ones tell the byte order of its numbers."""
        size, order = self._read(4, "the size of a section"), self._read(4, "the byte order of a section")
        self._order = "<" if order == b"\x4d\x3c\x2b\x1a" else ">"
        self._body(self._unpack("I", size)[0], 12)
        self._interfaces = []

    def _body(self, size: int, read: int) -> bytes:
        """Read the rest of a block of which some bytes were read; without the size at its end."""
        self._check_size(size)
        if size % 4 or size < read + 4:
            raise ValueError(f"{self._name} is damaged: a block of {size} bytes")
        return self._read(size - read, "a block")[:-4]

    def _interface(self, body: bytes) -> _Interface:
        link, snaplen = self._fields("H2xI", body, "an interface")
        options = dict(self._options(body[8:]))
        name = options.get(_IF_NAME, b"").decode(errors="replace")
        description = options.get(_IF_DESCRIPTION, b"").decode(errors="replace")
        side, _, pair = description.partition(" of the pair ")
        if side not in set(Side) or not pair:
            side, pair = "primary", ""  # another program's
        resolution = (options.get(_IF_TSRESOL) or b"\x06")[0]
        unit = (10**9, 1 << (resolution & 0x7F)) if resolution & 0x80 else (10**9, 10**resolution)
        offset = self._unpack("q", options[_IF_TSOFFSET])[0] if len(options.get(_IF_TSOFFSET, b"")) == 8 else 0
        del name
        if pair not in self._names:
            self._names.append(pair)
        return _Interface(link, self._names.index(pair), Side(side).number, unit, offset * 10**9, snaplen)

    def _with_time(self, body: bytes, number_layout: str) -> _Packet:
        number, high, low, captured, length = self._fields(f"{number_layout}IIII", body, "a packet")
        interface = self._numbered(number)
        data = body[20 : 20 + captured]
        if len(data) < captured:
            raise ValueError(f"{self._name} is damaged: a packet of {captured} bytes in a block of {len(body)}")
        inbound = False
        if not self._names[interface.pair]:
            flags = dict(self._options(body[20 + captured + -captured % 4 :])).get(_EPB_FLAGS, bytes(4))
            inbound = len(flags) == 4 and self._unpack("I", flags)[0] & 3 == 1
        times, share = interface.unit
        return _Packet(interface, (high << 32 | low) * times // share + interface.offset_ns, length, data, inbound)

    def _numbered(self, number: int) -> _Interface:
        if number >= len(self._interfaces):
            raise ValueError(f"{self._name} is damaged: there is no interface {number}")
        return self._interfaces[number]

    def _options(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        at = 0
        while at + 4 <= len(data):
            code, length = self._unpack("HH", data[at : at + 4])
            if not code:
                return
            yield code, data[at + 4 : at + 4 + length]
            at += 4 + length + -length % 4

    def _fields(self, layout: str, body: bytes, what: str) -> tuple[int, ...]:
        """What a block begins with."""
        size = struct.calcsize(self._order + layout)
        if len(body) < size:
            raise ValueError(f"{self._name} is damaged: {what} in a block of {len(body)} bytes")
        return self._unpack(layout, body[:size])

    def _unpack(self, layout: str, data: bytes) -> tuple[int, ...]:
        return struct.unpack(self._order + layout, data)

    def _check_size(self, size: int) -> None:
        if size > _LARGEST:
            raise ValueError(f"{self._name} is damaged: {size} bytes in one piece")

    def _read(self, size: int, what: str, *, may_end: bool = False) -> bytes:
        data = b""
        while len(data) < size and (more := self._file.read(size - len(data))):
            data += more
        if len(data) < size and not (may_end and not data):
            raise ValueError(f"{self._name} ends within {what}")
        return data

    def _is_regular(self) -> bool:
        try:
            return os.path.isfile(f"/proc/self/fd/{self._file.fileno()}")  # noqa: PTH113 - stat(2) alone
        except (OSError, io.UnsupportedOperation):
            return True  # in memory


def _is_received(link: int, data: bytes) -> bool:
    """Whether a cooked packet says so: it was for this host, for all, for many, or for another host."""
    if link == _SLL:
        return data[:2] in _RECEIVED
    return link == _SLL2 and data[10:11].rjust(2, b"\0") in _RECEIVED


def _as_ethernet(link: int, data: bytes, length: int, name: str) -> tuple[bytes, int]:
    """Make an Ethernet frame of a packet, and its length."""
    if link == _ETHERNET:
        return data, length
    if link in (_RAW, _IPV4, _IPV6):
        removed, ethertype = 0, None
    elif link in (_NULL, _LOOP):
        removed, ethertype = 4, None
    elif link == _SLL:
        removed, ethertype = 16, data[14:16]
    elif link == _SLL2:
        removed, ethertype = 20, data[0:2]
    else:
        raise ValueError(f"{name} has packets of link type {link}, not of Ethernet: tcpdump -r reads it")
    if ethertype is None:
        ethertype = b"\x86\xdd" if data[removed : removed + 1] >= b"\x60" else b"\x08\x00"
    return _NO_MAC * 2 + ethertype.rjust(2, b"\0") + data[removed:], max(length - removed, 0) + 14
