"""The entries of a trace pipe, as the kernel writes them, and what becomes of strange ones."""

from __future__ import annotations

import math

import pytest

import netkit_bpf as nk
from netkit_bpf.bpf.tracing.tracefs import Entry, parse

ENTRY = b"            ping-4711    [001] ..s2.  5123.000042: bpf_trace_printk: drop: port 12345\n"
TIME = 5123_000_042_000


def test_an_entry_has_its_task_cpu_and_time() -> None:
    assert parse(ENTRY) == (Entry(b"ping", 4711, 1, TIME, b"drop: port 12345"), 0)


def test_a_text_can_hold_newlines_and_lose_its_last() -> None:
    entry, _ = parse(ENTRY.replace(b"12345\n", b"one\ntwo\n\n"))
    assert entry is not None
    assert entry.text == b"drop: port one\ntwo"


def test_a_text_can_hold_what_looks_like_an_entry() -> None:
    entry, _ = parse(ENTRY + ENTRY)
    assert entry is not None
    assert (entry.task, entry.text) == (b"ping", b"drop: port 12345\n" + ENTRY.rstrip(b"\n"))


@pytest.mark.parametrize(
    "task",
    [
        b"<...>",
        b"kworker/u8:2-x1",
        b"a-1 [002] x",
        b"\xff \x01",
        b"two\nlines",
        b"\n\n",
        b"CPU:0 [LOST 9 E",
        b"x\n     root-1",
    ],
)
def test_a_task_may_be_called_anything(task: bytes) -> None:
    entry, lost = parse(ENTRY.replace(b"            ping", task.rjust(16)))
    assert entry == Entry(task, 4711, 1, TIME, b"drop: port 12345")
    assert lost == 0


def test_lost_entries_are_counted() -> None:
    entry, lost = parse(b"CPU:1 [LOST 1234 EVENTS]\n" + ENTRY)
    assert entry is not None
    assert entry.task == b"ping"
    assert lost == 1234
    assert parse(b"CPU:11 [LOST EVENTS]\n" + ENTRY)[1] == 1  # the kernel does not know how many


@pytest.mark.parametrize("other", [b"", b"\n", b"[LINE TOO BIG]\n", b"##### CPU 1 buffer started ####\n", ENTRY[1:]])
def test_what_is_no_call_of_bpf_printk_is_passed_over(other: bytes) -> None:
    assert parse(other) == (None, 0)


def test_a_line_is_its_text() -> None:
    assert str(nk.TraceLine("ping", 4711, 1, 10**18, "drop: port 12345")) == "drop: port 12345"


def test_arguments_are_checked_first() -> None:
    with pytest.raises(TypeError, match="prefix must be a str, not bytes"):
        nk.trace_log(prefix=b"x")  # type: ignore[arg-type]


def test_a_timeout_may_be_longer_than_the_kernel_counts() -> None:
    """Whatever waits takes it as it is: one function checks the timeouts of all."""
    from netkit_bpf.internal.arguments import expect_timeout

    assert expect_timeout(3e6) == 3e6
    assert expect_timeout(math.inf) is None
    assert expect_timeout(1e300) is None
    assert expect_timeout(10**400) is None
    for wrong in (-1, math.nan, -math.inf):
        with pytest.raises(ValueError, match="duration must be a number of seconds"):
            expect_timeout(wrong, "duration")
