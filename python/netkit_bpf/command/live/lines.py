# SPDX-License-Identifier: MIT
"""Flows as lines of a terminal, of any width."""

from __future__ import annotations

from typing import NamedTuple

from netkit_bpf.command.output import printable
from netkit_bpf.flows.flow import Flow, protocol_word
from netkit_bpf.flows.table import FlowTable

NARROWEST = 20
_UNITS = ("", "k", "M", "G", "T", "P", "E")
_THOUSAND = 1000
_TOO_LONG = 999.5  # from here on three digits are no longer enough
_ROUNDED = 99.95  # below, one digit behind the point has room


class Column(NamedTuple):
    """A number of a line, and from which width of the terminal on it is shown."""

    head: str
    width: int
    at: int


_BYTES, _PACKETS, _TOTAL = Column("B/s", 6, 0), Column("pkt/s", 6, 56), Column("bytes", 6, 72)
_HANDSHAKE, _FLAGS = Column("rtt ms", 7, 88), Column("flags", 12, 110)
_COLUMNS = (_PACKETS, _BYTES, _TOTAL, _HANDSHAKE, _FLAGS)
_SIDES_AT = 72


def lines_of(moved: FlowTable, table: FlowTable, order: str, width: int, height: int) -> list[str]:
    """A title, the heads of the columns and a line for each of the flows that come first; none is longer than `width`.

    Args:
        moved: what came meanwhile, whose flows are shown.
        table: what was counted in all.
        order: by which of their fields.
        width: columns of the terminal.
        height: lines of the terminal.
    """
    width = max(width, NARROWEST)
    seconds = moved.seconds or 1.0
    came = moved.total
    names = printable(",".join(table.pair_names))
    title = f"{names}: {short(came.bytes / seconds)}B/s {short(came.packets / seconds)}pkt/s {table.total.flows} flows"
    shown = [column for column in _COLUMNS if width >= column.at]
    heads = [column.head.rjust(column.width) for column in shown]
    lines = [_cut(title, width), _line("flow", heads, width)]
    rows = moved.top(max(height - len(lines), 0), order)
    totals = {_key(flow): flow for flow in table.matching(rows)} if _TOTAL in shown else {}
    for flow in rows:
        values = {
            _PACKETS: short(flow.packets / seconds),
            _BYTES: short(flow.bytes / seconds),
            _TOTAL: short(totals[_key(flow)].bytes) if _key(flow) in totals else "",
            _HANDSHAKE: "" if flow.handshake_ns is None else f"{flow.handshake_ns / 1e6:.2f}",
            _FLAGS: "" if flow.tcp_flags is None else str(flow.tcp_flags),
        }
        numbers = [_cut(values[column], column.width).rjust(column.width) for column in shown]
        room = width - sum(column.width + 1 for column in shown)
        lines.append(_line(_ends(flow, room, with_side=width >= _SIDES_AT), numbers, width))
    return lines


def short(number: float) -> str:
    """A number in five characters at most, with the unit's prefix: "12.3k"."""
    power = 0
    while number >= _TOO_LONG and power < len(_UNITS) - 1:
        number /= _THOUSAND
        power += 1
    digits = 1 if number < _ROUNDED and (power or number != int(number)) else 0
    return f"{number:.{digits}f}{_UNITS[power]}"


def _key(flow: Flow) -> tuple[object, ...]:
    return flow[: Flow._fields.index("flows")]


def _line(left: str, numbers: list[str], width: int) -> str:
    right = "".join(f" {number}" for number in numbers)
    room = width - len(right)
    return _cut(left, room).ljust(room) + right


def _ends(flow: Flow, room: int, *, with_side: bool) -> str:
    """Who sends to whom, in so many characters."""
    start = f"{flow.side or '':7} " if with_side else ""
    if flow.src is None:
        what = f"ethertype {flow.ethertype:#06x}" if flow.is_attributed else f"{flow.flows} flows not told apart"
        return start + what
    start += f"{protocol_word(flow.protocol):4} "
    src, dst = (_end(address, port) for address, port in ((flow.src, flow.src_port), (flow.dst, flow.dst_port)))
    left = room - len(start) - len(" > ")
    if len(src) + len(dst) > left:
        half = max(left // 2, 1)
        src = _middle(src, max(half, left - len(dst)))
        dst = _middle(dst, left - len(src))
    return f"{start}{src} > {dst}"


def _end(address: object, port: int | None) -> str:
    return str(address) if port is None else f"{address}.{port}"


def _middle(text: str, width: int) -> str:
    """The text without its middle, where it is longer: its end tells more than its beginning."""
    if len(text) <= width:
        return text
    if width < 3:
        return text[-max(width, 0) :] if width > 0 else ""
    tail = (width - 1) * 2 // 3
    return f"{text[: width - 1 - tail]}~{text[-tail:]}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 1, 0)] + "~"
