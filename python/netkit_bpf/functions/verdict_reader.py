# SPDX-License-Identifier: MIT
"""Reading what the rules of a firewall decided: bpf/firewall/log.h."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Generic, TypeVar

from netkit_bpf.bpf.map import Map
from netkit_bpf.enums import Verdict
from netkit_bpf.events.event import PacketEvent
from netkit_bpf.events.packet_reader import PacketReader
from netkit_bpf.events.stats import MonitorStats
from netkit_bpf.firewall.ruleset import Ruleset
from netkit_bpf.firewall.verdict_event import VerdictEvent

_T = TypeVar("_T")
_JUDGED = struct.Struct("=IIiI")  # struct nk_fw_event behind the packet, <netkit_bpf/firewall.h>


class VerdictReader:
    """Reads what rules that say `log` decided, as `Monitor` reads packets. Made by `Firewall.log`, and closed with it.

    Any thread may read, close it and ask for its stats; each event goes to one reader. Signal handlers run while a read
    waits. Iterating, with `for` and with `async for`, waits for ever; `events` takes limits. A forked child can neither
    use it nor harm it. The methods raise what those of `PacketReader` raise.
    """

    def __init__(self, ring: Map, pair_name: str, rules_of: Callable[[int], Ruleset | None]) -> None:
        self._packets = PacketReader(ring, pairs=[pair_name], snaplen=_JUDGED.size, name="firewall's log")
        self._rules_of = rules_of

    def events(
        self, timeout: float | None = None, duration: float | None = None, count: int | None = None
    ) -> VerdictIterator[VerdictEvent]:
        """Iterate over the events, with `for` or with `async for`; the iterator also ends on `close`.

        Args:
            timeout: seconds without an event after which it ends. With 0 it gives what is there and waits for nothing.
            duration: seconds from now after which it ends, even if events keep coming.
            count: how many events it gives at most, 1 or more.
        """
        return VerdictIterator(self._packets.events(timeout, duration, count), self._event)

    def __iter__(self) -> Iterator[VerdictEvent]:
        return self.events()

    def __aiter__(self) -> AsyncIterator[VerdictEvent]:
        return aiter(self.events())

    def read(self, timeout: float | None = None) -> VerdictEvent | None:
        """Return one event; None after `timeout` seconds without one, or if it is closed meanwhile."""
        packet = self._packets.read(timeout)
        return None if packet is None else self._event(packet)

    def read_batch(self, max_events: int = 65536, timeout: float | None = None) -> list[VerdictEvent]:
        """Return the events that wait, at most `max_events`; none after `timeout` seconds without one."""
        return self._events(self._packets.read_batch(max_events, timeout))

    def batches(
        self, timeout: float | None = None, duration: float | None = None, count: int | None = None
    ) -> VerdictIterator[list[VerdictEvent]]:
        """Iterate over the events in lists as they come; `count` counts events."""
        return VerdictIterator(self._packets.batches(timeout, duration, count), self._events)

    @property
    def stats(self) -> MonitorStats:
        """The counts so far, of events: those that were lost found the ring buffer full."""
        return self._packets.stats

    def fileno(self) -> int:
        """A descriptor for `select` and its like: readable while events wait."""
        return self._packets.fileno()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._packets.closed

    def close(self) -> None:
        """Stop reading and wake all waiting readers. Idempotent. What was not read is dropped."""
        self._packets.close()

    def _events(self, packets: Any) -> list[VerdictEvent]:
        return list(map(self._event, packets))

    def _event(self, packet: PacketEvent) -> VerdictEvent:
        generation, number, verdict, _ = _JUDGED.unpack(packet.data or b"")
        rules = self._rules_of(generation)
        packet, said = packet.without_data(), Verdict.from_number(verdict)
        if rules is None:
            return VerdictEvent(packet, said, number, None, generation)
        if number >= len(rules):
            return VerdictEvent(packet, said, None, None, generation)
        return VerdictEvent(packet, said, number, rules[number], generation)

    def __repr__(self) -> str:
        return f"<VerdictReader {'closed' if self.closed else 'open'}>"


class VerdictIterator(Generic[_T]):
    """The events of a firewall as they come, for `for` and for `async for`. Made by `Firewall.events`."""

    def __init__(self, packets: Any, convert: Callable[[Any], _T]) -> None:
        self._packets = packets
        self._convert = convert

    def __iter__(self) -> VerdictIterator[_T]:
        return self

    def __next__(self) -> _T:
        return self._convert(next(self._packets))

    def __aiter__(self) -> AsyncIterator[_T]:
        return _AsyncVerdicts(aiter(self._packets), self._convert)


class _AsyncVerdicts(Generic[_T]):
    def __init__(self, packets: AsyncIterator[Any], convert: Callable[[Any], _T]) -> None:
        self._packets = packets
        self._convert = convert

    def __aiter__(self) -> _AsyncVerdicts[_T]:
        return self

    async def __anext__(self) -> _T:
        return self._convert(await anext(self._packets))
