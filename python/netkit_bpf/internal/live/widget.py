# SPDX-License-Identifier: MIT
"""A live view's picture in the browser while it goes on, where anywidget is installed."""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets


class LiveWidget(anywidget.AnyWidget):
    """A picture that is replaced in place: less comes than with a new output, and a button can hold it.

    The button is the browser's alone. The kernel is busy with the view, and would hear of it when that is over.
    """

    _esm = Path(__file__).with_name("widget.js").read_text(encoding="utf-8")
    html = traitlets.Unicode().tag(sync=True)
