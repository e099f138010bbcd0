# SPDX-License-Identifier: MIT
"""What `netkit-bpf monitor` prints, and when it ends, of events that come faster than they are printed."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from netkit_bpf import Export, Monitor, PacketReader
from netkit_bpf.command.output import say
from netkit_bpf.command.packets.printer import ExportPrinter
from netkit_bpf.command.packets.source import live
from netkit_bpf.command.signals import Stop, until_closed
from netkit_bpf.functions.monitor_programs import load_programs
from packets import ipv6, tcp

FRAME = ipv6(6, tcp())
LINE = "[primary] IPv6: "


@pytest.fixture
def stop() -> Iterator[Stop]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield Stop()
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def flooded() -> Iterator[Monitor]:
    """A reader whose ring a thread fills all the time: a monitor's own, but for the device."""
    done = threading.Event()
    with load_programs(0, 1 << 20) as obj, PacketReader(obj.maps["events"], pairs=["nk0"]) as reader:

        def flood() -> None:
            while not done.is_set():
                obj.programs["monitor_primary"].test_run(FRAME, repeat=1000)

        thread = threading.Thread(target=flood)
        thread.start()
        yield cast("Monitor", reader)
        done.set()
        thread.join()


@pytest.mark.filterwarnings("ignore:the packet reader .* loses packets:RuntimeWarning")
@pytest.mark.parametrize(("duration", "count"), [(0.3, None), (None, 2000)])
def test_it_ends_in_a_flood(
    duration: float | None, count: int | None, flooded: Monitor, stop: Stop, tmp_path: Path
) -> None:
    limits = argparse.Namespace(duration=duration, count=count)
    start = time.monotonic()
    with (tmp_path / "lines").open("w") as out, contextlib.redirect_stdout(out):
        for batch in live(flooded, limits, stop, None):
            say(*map(str, batch))
    assert duration is None or duration <= time.monotonic() - start < duration + 5
    lines = (tmp_path / "lines").read_text().splitlines()
    assert lines
    assert all(line.startswith(LINE) for line in lines)
    assert count is None or len(lines) == count


@pytest.mark.filterwarnings("ignore:the packet reader .* loses packets:RuntimeWarning")
def test_what_it_exports_reconciles_with_its_accounts(flooded: Monitor, stop: Stop, tmp_path: Path) -> None:
    with (tmp_path / "lines").open("w") as out, contextlib.redirect_stdout(out):
        export = Export(flooded)
        printer = ExportPrinter(export)
        for batch in live(flooded, argparse.Namespace(duration=1.5, count=None), stop):
            printer.write(batch)
        flooded.close()
        printer.finish()
    lines = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    events, accounts = ([line for line in lines if line["type"] == kind] for kind in ("event", "account"))
    assert [event["sequence"] for event in events] == list(range(len(events)))
    assert {event["stream"] for event in events} == {account["stream"] for account in accounts} == {export.stream}
    assert len(accounts) >= 4  # of both sides, after a second and at last
    assert sum(account["delivered"] for account in accounts[-2:]) == len(events)


@pytest.mark.filterwarnings("ignore:the packet reader .* loses packets:RuntimeWarning")
def test_a_capture_that_is_closed_before_it_begins_ends_and_other_errors_are_told(
    flooded: Monitor, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="keeps no packet data"), until_closed(flooded):
        flooded.capture(tmp_path / "x")
    flooded.close()
    with pytest.raises(ValueError, match="closed"):
        flooded.capture(tmp_path / "x")
    with until_closed(flooded):
        flooded.capture(tmp_path / "x")
