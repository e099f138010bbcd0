"""The lines of a trace pipe, as the kernel writes them, and what becomes of strange ones."""

from __future__ import annotations

import pytest

import netkit_bpf as nk
from netkit_bpf.bpf.trace import parse

LINE = b"            ping-4711    [001] ..s2.  5123.000042: bpf_trace_printk: drop: port 12345\n"


def test_a_line_has_its_task_cpu_and_time() -> None:
    lines, lost = parse(LINE, clock_offset_ns=10**18)
    assert lines == [nk.TraceLine("ping", 4711, 1, 10**18 + 5123_000_042_000, "drop: port 12345")]
    assert lost == 0
    assert str(lines[0]) == "drop: port 12345"


def test_a_text_can_hold_newlines_and_lose_its_last() -> None:
    lines, _ = parse(LINE.replace(b"12345\n", b"one\ntwo\n\n") + LINE)
    assert [line.text for line in lines] == ["drop: port one\ntwo", "drop: port 12345"]


@pytest.mark.parametrize(
    ("task", "name"),
    [
        (b"<...>", "<...>"),
        (b"kworker/u8:2-x1", "kworker/u8:2-x1"),
        (b"a-1 [002] x", "a-1 [002] x"),
        (b"\xff \x01", "\N{REPLACEMENT CHARACTER} \x01"),
    ],
)
def test_a_task_may_be_called_anything(task: bytes, name: str) -> None:
    lines, _ = parse(LINE.replace(b"            ping", task.rjust(16)))
    assert [(line.task, line.pid) for line in lines] == [(name, 4711)]


def test_lost_lines_are_counted() -> None:
    lines, lost = parse(b"CPU:1 [LOST 1234 EVENTS]\n" + LINE + b"CPU:0 [LOST 1 EVENTS]\n")
    assert len(lines) == 1
    assert lost == 1235


def test_what_is_no_line_before_the_first_is_passed_over() -> None:
    assert parse(b"\n##### CPU 1 buffer started ####\n" + LINE)[0] == parse(LINE)[0]
    assert parse(b"") == ([], 0)


def test_arguments_are_checked_first() -> None:
    with pytest.raises(TypeError, match="prefix must be a str, not bytes"):
        nk.trace_log(prefix=b"x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="timeout must be a number of seconds"):
        nk.trace_log(timeout=-1)
