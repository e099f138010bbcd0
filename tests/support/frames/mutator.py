# SPDX-License-Identifier: MIT
"""Ways to spoil packets."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence

from decoder import DCCP, EXTENSIONS, ICMP, ICMPV6, IPV4, IPV6, SCTP, SERVICE_VLAN, TCP, UDP, UDPLITE, VLAN
from native import may_be_refused
from packets import ESP, NO_NEXT_HEADER, tagged

# Octets that decide how a packet is read, from the start of the IP header on; extension headers begin at 40.
_TELLING_IPV4 = (0, 0, 2, 3, 3, 6, 7, 9, 9)
_TELLING_IPV6 = (0, 4, 5, 5, 6, 6, *(40 + 8 * i + j for i in range(9) for j in (0, 0, 1, 2, 3)))
_TELLING_VALUES = (
    *(*EXTENSIONS, *EXTENSIONS, TCP, UDP, UDPLITE, SCTP, DCCP, ICMP, ICMPV6, ESP, NO_NEXT_HEADER),
    *(2, 3, 4, 5, 7, 8, 16, 20, 24, 40, 0x40, 0x44, 0x45, 0x46, 0x4F, 0x60, 0x6F, 0x20, 0x81, 0x88, 0xA8, 0xDD, 0xFF),
)
_TELLING_TYPES = (IPV4, IPV4, IPV6, IPV6, VLAN, SERVICE_VLAN, 0x0806)
_LONGEST = 2000


class Mutator:
    """Spoils packets: the same seed gives the same ones."""

    def __init__(self, packets: Sequence[bytes], seed: int) -> None:
        self._packets = packets
        self._random = random.Random(seed)
        self._ways = (
            *(self._flip_a_bit, self._replace_an_octet, self._replace_a_telling_octet, self._replace_a_telling_octet),
            *(
                self._replace_a_type,
                self._truncate,
                self._extend,
                self._splice,
                self._duplicate,
                self._remove,
                self._tag,
            ),
        )

    def packets(self, count: int) -> Iterator[bytes]:
        """Give that many spoilt packets, all of which the kernel runs a program on."""
        for _ in range(count):
            frame = bytearray(self._random.choice(self._packets))
            for _ in range(self._random.choice((1, 1, 2, 2, 3, 5))):
                frame = self._random.choice(self._ways)(frame)
                frame = frame[:_LONGEST].ljust(15, b"\0")
            done = bytes(frame)
            yield tagged(done) if may_be_refused(done) else done

    def _place(self, frame: bytearray) -> int:
        return self._random.randrange(len(frame))

    def _flip_a_bit(self, frame: bytearray) -> bytearray:
        frame[self._place(frame)] ^= 1 << self._random.randrange(8)
        return frame

    def _replace_an_octet(self, frame: bytearray) -> bytearray:
        frame[self._place(frame)] = self._random.randrange(256)
        return frame

    def _replace_a_telling_octet(self, frame: bytearray) -> bytearray:
        start = self._start(frame)
        at = start + self._random.choice(_TELLING_IPV4 if frame[start - 2] == IPV4 >> 8 else _TELLING_IPV6)
        if at < len(frame):
            frame[at] = (
                self._random.choice(_TELLING_VALUES) if self._random.random() < 0.8 else self._random.randrange(256)
            )
        return frame

    def _replace_a_type(self, frame: bytearray) -> bytearray:
        at = self._start(frame) - 2
        frame[at : at + 2] = struct.pack("!H", self._random.choice(_TELLING_TYPES))
        return frame

    def _truncate(self, frame: bytearray) -> bytearray:
        return frame[: self._random.randrange(15, len(frame) + 1)]

    def _extend(self, frame: bytearray) -> bytearray:
        return frame + self._random.randbytes(self._random.randrange(1, 64))

    def _splice(self, frame: bytearray) -> bytearray:
        other = self._random.choice(self._packets)
        at = self._place(frame)
        same = at if self._random.random() < 0.5 else self._random.randrange(len(other))
        return frame[:at] + other[same:]

    def _duplicate(self, frame: bytearray) -> bytearray:
        at, size = self._piece(frame)
        return frame[: at + size] + frame[at:]

    def _remove(self, frame: bytearray) -> bytearray:
        at, size = self._piece(frame)
        return frame[:at] + frame[at + size :]

    def _tag(self, frame: bytearray) -> bytearray:
        return bytearray(
            tagged(bytes(frame), self._random.randrange(0x1000), kind=self._random.choice((VLAN, SERVICE_VLAN)))
        )

    def _piece(self, frame: bytearray) -> tuple[int, int]:
        """Choose where an extension header may stand."""
        return self._start(frame) + 40 + 8 * self._random.randrange(6), 8 * self._random.randrange(1, 4)

    @staticmethod
    def _start(frame: bytearray) -> int:
        """Where the content of a frame begins, behind its tags."""
        at = 14
        while bytes(frame[at - 2 : at]) in (b"\x81\0", b"\x88\xa8") and at + 4 <= len(frame):
            at += 4
        return at
