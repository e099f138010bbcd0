"""Live views: what a notebook is given to draw, and that an interruption ends them and leaves nothing."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from elsewhere import needs_ipython, needs_tcx
from netkit_bpf import FlowMetrics, Monitor
from traffic import Wire
from veth import veth_wire

pytestmark = [needs_tcx, needs_ipython]


class Drawn:
    """What was displayed: one output, drawn anew."""

    def __init__(self) -> None:
        self.pictures: list[dict[str, str]] = []
        self.outputs = 0

    def display(self, data: dict[str, str], *, raw: bool, metadata: dict[str, str], display_id: bool) -> Drawn:
        assert raw
        assert display_id
        self.outputs += 1
        self.update(data, raw=raw)
        return self

    def update(self, data: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.pictures.append(data)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    made = Drawn()
    monkeypatch.setattr("IPython.display.display", made.display)
    return made


@pytest.fixture
def wire() -> Iterator[Wire]:
    with veth_wire(4) as made:
        yield made


def ping(wire: Wire) -> None:
    wire.left.netns.run(["ping", "-q", "-c5", "-i0.01", wire.right.address], capture_output=True, check=True)


VIEWS: dict[str, Callable[[Wire], Any]] = {
    "monitor": lambda wire: Monitor(wire.pair),
    "flows": lambda w: FlowMetrics(w.pair),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_one_output_shows_what_came(wire: Wire, drawn: Drawn, view: Callable[[Wire], Any]) -> None:
    with view(wire) as source:
        pinging = threading.Thread(target=ping, args=[wire])
        pinging.start()
        source.live(0.5, interval=0.1)
        pinging.join()
    assert drawn.outputs == 1
    assert 4 <= len(drawn.pictures) <= 7
    last = drawn.pictures[-1]
    for word in ("<svg ", "primary", "peer", "10.42.0.1", "ICMP"):
        assert word.lower() in last["text/html"].lower()
    assert last["text/plain"].startswith(("Monitor ve0", "FlowMetrics of ve0"))


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_an_interruption_ends_it_and_the_last_picture_stays(
    wire: Wire, drawn: Drawn, view: Callable[[Wire], Any]
) -> None:
    with view(wire) as source:
        timer = threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT])
        timer.start()
        began = time.monotonic()
        source.live(interval=0.1)
        assert time.monotonic() - began < 5
        timer.join()
        assert not source.closed
        source.live(0.1, interval=0.05)  # and it can go on
    assert drawn.outputs == 2


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_view_ends_when_its_source_is_closed(wire: Wire, drawn: Drawn, view: Callable[[Wire], Any]) -> None:
    with view(wire) as source:
        timer = threading.Timer(0.2, source.close)
        timer.start()
        try:
            source.live(interval=0.1)
        except ValueError as error:
            assert "closed" in str(error)  # noqa: PT017 - it may be closed between two drawings
        timer.join()


@pytest.mark.parametrize("interval", [0, -1, float("nan"), None])
def test_an_interval_must_be_a_time(wire: Wire, drawn: Drawn, interval: Any) -> None:
    with FlowMetrics(wire.pair) as metrics, pytest.raises((ValueError, TypeError), match="interval"):
        metrics.live(1, interval=interval)


def test_the_newest_packets_are_shown(wire: Wire, drawn: Drawn) -> None:
    with Monitor(wire.pair, filter="icmp") as monitor:
        ping(wire)
        monitor.live(0.2, interval=0.2)
        assert monitor.stats.total.delivered == 10
    shown = drawn.pictures[-1]["text/html"]
    assert shown.count("<td>ICMP</td>") == 8
