# SPDX-License-Identifier: MIT
"""Live views in notebooks: one output that is drawn anew, and stays as it was at the end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from netkit_bpf.internal.drawing import draw_lines
from netkit_bpf.internal.html import show

if TYPE_CHECKING:
    from netkit_bpf.internal.live.widget import LiveWidget

_MOST = 240  # points of a line: older ones leave at the left


class LiveView:
    """An output with a plot of rates and a table. It is a widget until the view ends, where there are widgets.

    Args:
        title: what stands above.
        unit: of the rates, "packets/s".
    """

    def __init__(self, title: str, unit: str) -> None:
        try:
            from IPython.display import display
        except ImportError as error:
            raise ImportError("live() needs IPython: pip install 'netkit-bpf[jupyter]'") from error
        self._display: Any = display
        self._handle: Any = None
        self._widget: LiveWidget | None = None
        self._last_data: dict[str, str] = {}
        self._title, self._unit = title, unit
        self._start = self._last = time.monotonic()
        self._counts: dict[str, float] = {}
        self._lines: dict[str, list[tuple[float, float]]] = {}

    def update(self, counts: Mapping[str, float], tables: Iterable[object]) -> None:
        """Draw what came since the last time as rates, and the tables below."""
        now = time.monotonic()
        seconds = now - self._last
        before, self._counts, self._last = self._counts, dict(counts), now
        self.draw({name: (counts[name] - before[name]) / seconds for name in before if seconds > 0}, tables)

    def draw(self, rates: Mapping[str, float], tables: Iterable[object]) -> None:
        """Draw the plot with these rates added at its end, and the tables below."""
        seconds = time.monotonic() - self._start
        for name, rate in rates.items():
            line = self._lines.setdefault(name, [])
            line.append((seconds, rate))
            del line[:-_MOST]
        title = f"{self._title} · {seconds:.1f} s"
        latest = ", ".join(f"{name} {line[-1][1]:,.0f}" for name, line in self._lines.items())
        text = f"{title}: {latest or 'no rates yet'} {self._unit}"
        html = show(title, lambda: [draw_lines(self._lines, self._unit), *tables])
        self._last_data = {"text/plain": text, **({} if html is None else {"text/html": html})}
        if self._handle is None:
            self._begin()
        elif self._widget is None:
            self._handle.update(self._last_data, raw=True)
        else:
            self._widget.html = self._html()

    def __enter__(self) -> LiveView:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last picture as an output that needs no widgets: a notebook that is opened later has none."""
        if self._widget is not None:
            if self._handle is not None:  # else it could not be shown
                self._handle.update(self._last_data, raw=True)
            self._widget.html = ""  # of widgets that were closed, too, some programs keep the state in the notebook
            self._widget.close()

    def _begin(self) -> None:
        self._widget = _widget(self._html())
        bundle = self._widget._repr_mimebundle_() if self._widget is not None else None
        view, metadata = bundle or ({}, {})
        # Who knows no widgets shows the picture instead.
        data = {**view, **self._last_data}
        self._handle = self._display(data, raw=True, metadata=metadata, display_id=True)

    def _html(self) -> str:
        return self._last_data.get("text/html") or f"<pre>{escape(self._last_data['text/plain'])}</pre>"


def _widget(html: str) -> LiveWidget | None:
    """A widget with this picture; None if no notebook asks, or without anywidget."""
    from IPython import get_ipython

    if not hasattr(get_ipython(), "kernel"):
        return None
    try:
        from netkit_bpf.internal.live.widget import LiveWidget
    except ImportError:
        return None
    return LiveWidget(html=html)


def waits(duration: float | None, interval: float) -> Iterable[float]:
    """How many seconds to wait before each drawing, until the duration is over."""
    end = None if duration is None else time.monotonic() + duration
    while end is None or (left := end - time.monotonic()) > 0:
        yield interval if end is None else min(interval, left)
