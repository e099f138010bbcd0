# SPDX-License-Identifier: MIT
"""Commands whose pair is deleted: they say so and end, so that a supervisor starts them anew."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from netkit_bpf import NetkitPair, NetNS

COMMAND = [sys.executable, "-m", "netkit_bpf"]
PATIENCE = 60  # an emulated machine is slow
GONE = "nk0: No such device (the device or its network namespace was deleted"
TOP = ["top", "--interval", "0.1"]


@pytest.fixture
def here() -> Iterator[NetNS]:
    with NetNS.create() as here:
        yield here


@contextmanager
def running(here: NetNS, *words: str) -> Iterator[subprocess.Popen[str]]:
    """The command, once it has begun; all that it says is in its output."""
    with here.popen(
        [*COMMAND, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        assert "nk0" in (first := process.stdout.readline()) or "192.0.2.80:80" in first
        try:
            yield process
        finally:
            process.kill()


def last_line(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    return said.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ([*TOP, "nk0", "-c", "9999"], "metrics"),
        (["exporter", "nk0", "--listen", "127.0.0.1:0"], "metrics"),
        (["fw", "load", "nk0"], "firewall"),
        (["lb", "nk0", "--vip", "192.0.2.80", "--port", "80"], "load balancer"),
    ],
)
def test_a_command_ends_with_its_pair(here: NetNS, words: list[str], what: str) -> None:
    with NetkitPair.create("nk0", netns=here) as pair:
        with running(here, *words) as process:
            pair.delete()
            assert last_line(process).startswith(f"netkit-bpf: {what} {GONE}")


def test_rules_stay_on_a_pair_that_is_moved(here: NetNS) -> None:
    with NetkitPair.create("nk0", netns=here) as pair, NetNS.create() as elsewhere:
        with running(here, "fw", "load", "nk0") as process:
            pair.primary.move(elsewhere)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(2)
            assert len(pair.programs("peer").programs) == 1


def test_what_counts_on_several_pairs_ends_with_the_last_one(here: NetNS) -> None:
    with NetkitPair.create("nk0", netns=here) as last, NetkitPair.create("nk1", netns=here) as first:
        with running(here, *TOP, "-c", "9999", "nk0", "nk1") as process:
            first.delete()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(2)
            last.delete()
            assert "was deleted" in last_line(process)


def test_top_gives_the_terminal_back_before_it_says_so(here: NetNS) -> None:
    ours, theirs = pty.openpty()
    with NetkitPair.create("nk0", netns=here) as pair:
        with here.popen([*COMMAND, *TOP, "nk0"], stdin=theirs, stdout=theirs, stderr=subprocess.PIPE) as process:
            drawn = os.read(ours, 65536)
            pair.delete()
            while b"\x1b[?25h\x1b[?1049l" not in drawn:
                drawn += os.read(ours, 65536)
            assert process.wait(PATIENCE) == 1
            assert process.stderr is not None
            assert process.stderr.read().startswith(f"netkit-bpf: metrics {GONE}".encode())
    os.close(ours)
    os.close(theirs)
