# SPDX-License-Identifier: MIT
"""A monitor of many pairs: what each of them takes."""

from __future__ import annotations

import errno
import gc
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from elsewhere import needs_tcx
from netkit_bpf import Monitor, NetkitPair
from veth import veth_pairs

pytestmark = needs_tcx
PAIRS = 24


@pytest.fixture(scope="module")
def pairs() -> Iterator[list[NetkitPair]]:
    with veth_pairs(PAIRS) as made:
        yield made


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def limit(more: int) -> Iterator[None]:
    """Room for so many more descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors() + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_pair_takes_three_descriptors_at_most(pairs: list[NetkitPair]) -> None:
    before = descriptors()
    with limit(3 * PAIRS + 30), Monitor(*pairs):
        assert descriptors() - before <= 3 * PAIRS + 30
    assert descriptors() == before


def test_where_descriptors_run_out_the_error_says_so_and_nothing_is_attached(pairs: list[NetkitPair]) -> None:
    before = descriptors()
    with limit(PAIRS), pytest.raises(OSError, match=r"raise its limit \(ulimit -n\)") as caught:
        Monitor(*pairs)
    assert caught.value.with_traceback(None).errno == errno.EMFILE
    caught = None  # type: ignore[assignment]
    gc.collect()
    assert descriptors() == before
    assert not [program for pair in pairs for side in ("primary", "peer") for program in pair.programs(side).programs]


@pytest.mark.parametrize("options", [{}, {"keep_first": True, "filter": "udp"}])
def test_wherever_descriptors_run_out_an_addition_leaves_nothing(
    pairs: list[NetkitPair], options: dict[str, Any]
) -> None:
    """Each number of descriptors that is left, until one suffices."""
    first, second = pairs[:2]
    with Monitor(first, **options) as monitor:
        before = descriptors()
        for left in range(100):
            with limit(left):
                error = failure(lambda: monitor.add(second))
            if error is None:
                break
            assert error == errno.EMFILE
            gc.collect()
            assert not [program for side in ("primary", "peer") for program in second.programs(side).programs]
            assert len(monitor.origins) <= 2  # numbers
            assert descriptors() <= before + 20  # what further pairs share, which is loaded once
        assert [each.name for each in monitor.stats.pairs] == ["ve0", "ve1"]


def failure(change: Callable[[], None]) -> int | None:
    """The error's number; it holds nothing."""
    try:
        change()
    except OSError as error:
        return error.errno
    return None
