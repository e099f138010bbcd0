# SPDX-License-Identifier: MIT
"""HTML for notebooks: headings, tables and drawings that take the notebook's own colours, light or dark.

All text is escaped: names of devices and programs are chosen by others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import NamedTuple

MOST_ROWS = 20  # of a table, before the rest is only counted

# Styles stand in each output, because each may be shown alone. Without them, as on sites that remove styles, tables are
# plain tables.
_STYLE = """<style>
.netkit-bpf { color: inherit; font-size: 13px; line-height: 1.4; overflow-x: auto }
.netkit-bpf .title { font-family: ui-monospace, monospace; margin: .2em 0 .4em }
.netkit-bpf table { border-collapse: collapse; border: 0; margin: .2em 0 .7em; color: inherit }
.netkit-bpf caption { text-align: left; caption-side: top; font-weight: 600; padding: .1em 0; color: inherit }
.netkit-bpf tr, .netkit-bpf th, .netkit-bpf td { background: none !important; border: 0; color: inherit }
.netkit-bpf th, .netkit-bpf td {
  padding: .15em .8em .15em 0; text-align: left !important; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid rgba(128, 128, 128, .35)
}
.netkit-bpf td.number, .netkit-bpf th.number { text-align: right !important; font-variant-numeric: tabular-nums }
.netkit-bpf td.bar { min-width: 120px; vertical-align: middle }
.netkit-bpf td.bar div { height: 9px; background: #0072B2 }
.netkit-bpf svg { max-width: 100%; height: auto; display: block }
.netkit-bpf svg text { fill: currentColor }
</style>"""


class Part(NamedTuple):
    """The value of a cell as a bar: a part of the largest, 0 to 1."""

    value: float


class Table(NamedTuple):
    """A table; numbers stand at the right.

    Attributes:
        header: the names of the columns; empty for none.
        rows: the cells. None is an empty one, a `Part` a bar.
        caption: what it is.
        left_out: how many rows there are beside these.
    """

    header: Sequence[str]
    rows: Iterable[Sequence[object]]
    caption: str = ""
    left_out: int = 0

    def __str__(self) -> str:
        rows = [list(row) for row in self.rows]
        numeric = [
            bool(column) and all(isinstance(each, (int, float)) or each is None for each in column)
            for column in zip(*rows, strict=True)
        ]
        numeric += [False] * (len(self.header) - len(numeric))
        lines = ["<table>"]
        if self.caption:
            lines.append(f"<caption>{escape(self.caption)}</caption>")
        if self.header:
            lines.append(f"<thead><tr>{''.join(map(_heading, self.header, numeric))}</tr></thead>")
        lines.append("<tbody>")
        lines += [f"<tr>{''.join(map(_cell, row, numeric))}</tr>" for row in rows]
        if self.left_out:
            columns = max(len(self.header), 1)
            lines.append(f'<tr><td colspan="{columns}">… and {self.left_out:,} more</td></tr>')
        return "\n".join([*lines, "</tbody></table>"])


def facts(**values: object) -> Table:
    """A table of names and values, without those that are None."""
    found = [(name.replace("_", " "), f"{value}") for name, value in values.items() if value is not None]
    return Table((), found)


def first(rows: Sequence[Sequence[object]], header: Sequence[str], caption: str = "", most: int = MOST_ROWS) -> Table:
    """A table of the first rows; the others are counted."""
    return Table(header, rows[:most], caption, max(0, len(rows) - most))


def show(title: object, build: Callable[[], Iterable[object]]) -> str | None:
    """The whole output: a title, `repr()` of an object, and what is built: tables and drawings.

    None if the object cannot be looked at, as its device is gone or a privilege is missing: its text is shown then.
    """
    try:
        parts = [str(part) for part in build()]
    except (OSError, LookupError, ValueError):
        return None
    text = title if isinstance(title, str) else repr(title).removeprefix("<").removesuffix(">")
    return "\n".join(['<div class="netkit-bpf">', _STYLE, f'<div class="title">{escape(text)}</div>', *parts, "</div>"])


def _heading(name: str, is_number: bool) -> str:
    kind = ' class="number"' if is_number else ""
    return f"<th{kind}>{escape(name)}</th>"


def _cell(value: object, is_number: bool) -> str:
    if value is None:
        return "<td></td>"
    if isinstance(value, Part):
        return f'<td class="bar"><div style="width: {max(0.0, min(1.0, value.value)):.1%}"></div></td>'
    if is_number:
        return f'<td class="number">{value:,}</td>'
    return f"<td>{escape(f'{value:,}' if type(value) is int else str(value))}</td>"
