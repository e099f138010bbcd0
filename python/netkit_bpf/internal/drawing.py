# SPDX-License-Identifier: MIT
"""Drawings for notebooks as SVG: cables between devices, and rates over time.

Lines and text have the colour of the text around them. The two other colours are told apart by anybody (Okabe and Ito),
and marks differ in form too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

BLUE, ORANGE = "#0072B2", "#D55E00"
MOST_CABLES = 24
_CHARACTER, _LINE, _PAD = 7.3, 17, 9  # pixels of a monospaced font of 12 pixels, and around boxes
_LONGEST = 60  # characters of the programs at a hook
_FONT = 'font-family="ui-monospace, monospace" font-size="12"'
_DASHES = ("", "6 3", "2 3", "8 3 2 3")
_COLOURS = (BLUE, ORANGE, "#009E73", "#CC79A7")


class Cable(NamedTuple):
    """One cable of a drawing: a pair.

    Attributes:
        near: what stands at its left end, above it.
        programs: those on the primary's hook.
        peer_programs: those on the peer's hook.
        far: the lines of the box at its right end.
    """

    near: str
    programs: Sequence[str]
    peer_programs: Sequence[str]
    far: Sequence[str]


def draw_cables(hub: Sequence[str], cables: Sequence[Cable]) -> str:
    """Draw a box with these lines, and cables from it to boxes of their own; of many, the first ones."""
    drawn = cables[:MOST_CABLES]
    labels = [(_hook_text(each.near, each.programs), _hook_text("", each.peer_programs)) for each in drawn]
    hub_width = _width(hub)
    far_width = max((_width(each.far) for each in drawn), default=0)
    gap = max([200.0, *(_CHARACTER * max(len(near), len(far)) + 60 for near, far in labels)])
    heights = [max(len(each.far) * _LINE + 2 * _PAD, 54) + 12 for each in drawn]
    more = f"… and {len(cables) - len(drawn)} more" if len(cables) > len(drawn) else ""
    box_height = max(sum(heights), len(hub) * _LINE + 2 * _PAD)
    width, height = hub_width + gap + far_width + 2, box_height + 30 + (_LINE if more else 0)
    parts = [_box(1, 1, hub_width, box_height - 12 if drawn else box_height, hub)]
    top = 1.0
    left, right = hub_width + 1, hub_width + 1 + gap
    for each, (near, far), row in zip(drawn, labels, heights, strict=True):
        middle = top + (row - 12) / 2
        parts.append(f'<path d="M{left:.1f} {middle:.1f}H{right:.1f}" stroke="currentColor" stroke-width="1.5"/>')
        parts += [_primary_mark(left + 16, middle), _peer_mark(right - 16, middle)]
        parts += [_text(left + 8, middle - 11, near), _text(right - 8, middle + 21, far, anchor="end")]
        parts.append(_box(right, top, far_width, row - 12, each.far))
        top += row
    legend = box_height + 14
    parts += _legend(legend)
    if more:
        parts.append(_text(1, legend + _LINE, more))
    return _svg(width, height, parts, "devices and the cables between them")


def draw_graph(boxes: Mapping[str, Sequence[str]], lines: Sequence[tuple[str, str, str]]) -> str:
    """Draw boxes with these lines of text around a circle, and the pairs between them; of many boxes, the first ones.

    Args:
        boxes: the text of each, by its name.
        lines: of each pair the box at the primary's end, the one at the peer's, and a text.
    """
    names = list(boxes)[:MOST_CABLES]
    half_width = max(_width(boxes[name]) for name in names) / 2
    half_height = (max(len(boxes[name]) for name in names) * _LINE + 2 * _PAD) / 2
    # So that neighbours on the circle leave room for the marks and the text of the line between them.
    room = half_width + 40 + max((len(text) for *_, text in lines), default=0) * _CHARACTER / 2
    across = room / math.sin(math.pi / max(2, len(names))) if len(names) > 1 else 0.0
    down = max(across * 0.55, half_height * 2 + 40) if len(names) > 2 else 0.0
    middle_x, middle_y = across + half_width + 2, down + half_height + 2
    turns = [math.tau * number / len(names) - math.pi for number in range(len(names))]
    places = {
        name: (middle_x + across * math.cos(turn), middle_y + down * math.sin(turn))
        for name, turn in zip(names, turns, strict=True)
    }
    parts: list[str] = []
    for near, far, text in (line for line in lines if line[0] in places and line[1] in places):
        (x, y), (to_x, to_y) = places[near], places[far]
        along_x, along_y = to_x - x, to_y - y
        length = math.hypot(along_x, along_y)
        along_x, along_y = along_x / length, along_y / length
        # From the centre of a box to its frame.
        inside = min(half_width / max(abs(along_x), 1e-9), half_height / max(abs(along_y), 1e-9))
        start, end = inside, length - inside
        ends = f"M{x + along_x * start:.1f} {y + along_y * start:.1f}L{x + along_x * end:.1f} {y + along_y * end:.1f}"
        parts.append(f'<path d="{ends}" stroke="currentColor" stroke-width="1.5"/>')
        parts.append(_primary_mark(x + along_x * (start + 14), y + along_y * (start + 14)))
        parts.append(_peer_mark(x + along_x * (end - 14), y + along_y * (end - 14)))
        # Not in the middle, where the diagonals of a mesh meet.
        at = start + (end - start) * 0.4
        steep = abs(along_y) > 0.2
        text_x, text_y = x + along_x * at + (9 if steep else 0), y + along_y * at
        text_y += 13 if steep and along_x * along_y < 0 else -7  # on the side that the line leaves free
        parts.append(_text(text_x, text_y, text, anchor="start" if steep else "middle"))
    for name, (x, y) in places.items():
        parts.append(_box(x - half_width, y - half_height, half_width * 2, half_height * 2, boxes[name]))
    width, bottom = max(2 * middle_x, 230.0), 2 * middle_y
    parts += _legend(bottom + 14)
    more = f"… and {len(boxes) - len(names)} more" if len(boxes) > len(names) else ""
    parts.append(_text(1, bottom + 14 + _LINE, more))
    return _svg(width, bottom + 20 + (_LINE if more else 0), parts, "nodes and the pairs between them")


def draw_lines(series: Mapping[str, Sequence[tuple[float, float]]], unit: str) -> str:
    """Draw values over seconds; each of the at most four series has points (seconds, value)."""
    width, height, left, right, top, bottom = 680, 210, 64, 12, 30, 34
    points = [point for each in series.values() for point in each]
    start = min((x for x, _ in points), default=0.0)
    end = max([start + 1.0, *(x for x, _ in points)])
    largest = _round_up(max([1e-9, *(y for _, y in points)]))

    def place(x: float, y: float) -> tuple[float, float]:
        across = left + (x - start) / (end - start) * (width - left - right)
        return across, height - bottom - y / largest * (height - top - bottom)

    parts = []
    for part in (0.0, 0.5, 1.0):
        _, y = place(start, part * largest)
        line = f'<path d="M{left} {y:.1f}H{width - right}" stroke="currentColor" stroke-opacity=".25"/>'
        parts += [line, _text(left - 8, y + 4, _short(part * largest), anchor="end")]
    for part in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, _ = place(start + part * (end - start), 0)
        anchor = "end" if part == 1.0 else "start" if part == 0.0 else "middle"
        parts.append(_text(x, height - bottom + 18, f"{start + part * (end - start):.1f} s", anchor=anchor))
    at = float(left)
    for (name, values), colour, dashes in zip(series.items(), _COLOURS, _DASHES, strict=False):
        style = f'stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"'
        parts.append(f'<path d="M{at:.1f} 12h26" {style}/>')
        parts.append(_text(at + 32, 16, name))
        at += 56 + _CHARACTER * len(name)
        if values:
            path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (place(*value) for value in values))
            parts.append(f'<path d="M{path}" fill="none" stroke-linejoin="round" {style}/>')
    parts.append(_text(width - right, 16, unit, anchor="end"))
    return _svg(width, height, parts, f"{', '.join(series)}: {unit} over time")


def _hook_text(name: str, programs: Sequence[str]) -> str:
    text = ": ".join(each for each in (name, ", ".join(programs)) if each)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _width(lines: Sequence[str]) -> float:
    return max((len(line) for line in lines), default=0) * _CHARACTER + 2 * _PAD


def _box(x: float, y: float, width: float, height: float, lines: Sequence[str]) -> str:
    frame = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    first = y + (height - len(lines) * _LINE) / 2 + 13
    text = "".join(_text(x + _PAD, first + number * _LINE, line) for number, line in enumerate(lines))
    return f'<rect {frame} rx="4" fill="none" stroke="currentColor"/>{text}'


def _legend(y: float) -> list[str]:
    primary = [_primary_mark(8, y - 4), _text(18, y, "primary hook")]
    return [*primary, _peer_mark(138, y - 4), _text(148, y, "peer hook")]


def _primary_mark(x: float, y: float) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5.5" fill="{BLUE}"/>'


def _peer_mark(x: float, y: float) -> str:
    return f'<path d="M{x - 6:.1f} {y + 5:.1f}h12l-6 -11z" fill="{ORANGE}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {_FONT}>{escape(text)}</text>' if text else ""


def _svg(width: float, height: float, parts: Sequence[str], label: str) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(label)}">'
    return "\n".join([opening, *parts, "</svg>"])


def _round_up(value: float) -> float:
    """The next number that is 1, 2 or 5 with zeros."""
    power = 10.0 ** len(str(int(value))) / 10 if value >= 1 else 1.0
    return next((step * power for step in (1, 2, 5, 10) if value <= step * power), value)


def _short(value: float) -> str:
    """A number in few characters: 1.5M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.3g}"
