# SPDX-License-Identifier: MIT
"""Packet events as tcpdump(8) prints packets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from netkit_bpf._core import TcpdumpLines
from netkit_bpf.events.batch import EventBatch
from netkit_bpf.internal.arguments import expect

Time = Literal["none", "epoch", "delta", "date", "since", "clock"]
Dump = Literal["none", "characters", "hex", "both"]


class TcpdumpFormat:
    """Makes the lines of tcpdump(8) of batches of events, with the side in front of the packet.

    ``17:34:12.123456 peer    IP 10.0.0.1.443 > 10.0.0.2.51000: Flags [S.], seq 1, ack 1, win 64240, length 0``

    A record does not hold all that such a line has: the length of a TCP segment and its options, Ethernet addresses,
    what ARP and neighbour discovery ask for. These come from the packet's first bytes, so make the monitor with a
    snaplen; 160 is enough. Where they are missing, the line has less. Payloads are not decoded, names not looked up,
    checksums not verified.

    It keeps the first sequence numbers of up to 65,536 TCP connections, and forgets them all when there are more. Any
    thread may use it.

    Args:
        time: "clock" is the local time, "none" (-t), "epoch" (-tt) seconds since 1970, "delta" (-ttt) since the
            previous line, "date" (-tttt) with the date, "since" (-ttttt) since the first line.
        nanoseconds: nine digits of a second, not six.
        number: number the lines (-#).
        link: the Ethernet header (-e).
        quiet: less of the protocol (-q).
        absolute: TCP's sequence numbers as they stand in the header (-S), not as distances from the first.
        verbose: 1 (-v) for more of the IP header, and a second line for IPv4; 2 (-vv) for every sequence number too.
        dump: the packet's bytes behind its line: "hex" (-x), "both" (-X) hex and characters, "characters" (-A).
        dump_link: with the Ethernet header (-xx, -XX).
        color: colour the side, for terminals.

    Raises:
        ValueError: a word is none of these.

    >>> lines = TcpdumpFormat(time="none")
    >>> while batch := monitor.read_batch(timeout=1.0):  # doctest: +SKIP
    ...     print(lines.format(batch), end="")
    """

    def __init__(
        self,
        *,
        time: Time = "clock",
        nanoseconds: bool = False,
        number: bool = False,
        link: bool = False,
        quiet: bool = False,
        absolute: bool = False,
        verbose: int = 0,
        dump: Dump = "none",
        dump_link: bool = False,
        color: bool = False,
    ) -> None:
        for name, value, words in (("time", time, get_args(Time)), ("dump", dump, get_args(Dump))):
            if value not in words:
                raise ValueError(f"{name} must be one of {', '.join(words)}, not {value!r}")
        self._lines = TcpdumpLines(
            time=get_args(Time).index(time),
            nanoseconds=nanoseconds,
            number=number,
            link=link,
            quiet=quiet,
            absolute=absolute,
            verbose=verbose,
            dump=get_args(Dump).index(dump),
            dump_link=dump_link,
            color=color,
        )

    def format(self, batch: EventBatch, pair_names: Sequence[str] | None = None) -> str:
        """Return the lines of a batch, each with its end.

        Args:
            batch: the events.
            pair_names: what stands in front of each side, for each of `batch.pair_names`: with several pairs their
                names, escaped for where the lines go. None: nothing. A packet of a file that tells neither pair nor
                side, whose `pair_name` is empty, has no side either.
        """
        rows = expect(batch, EventBatch, "batch")._rows
        shown = [""] * len(rows.names) if pair_names is None else list(pair_names)
        return self._lines.format(rows, shown if any(rows.names) else None)
