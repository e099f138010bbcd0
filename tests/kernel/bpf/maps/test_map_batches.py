"""Many elements at once: batches, copies, and iteration while others change the map."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

from map_programs import ADDRESS, FLOW
from netkit_bpf import Map


def test_batches_carry_arrays_in_and_out(maps: dict[str, Map]) -> None:
    large = maps["large"]
    keys = np.arange(20000, dtype="u8") << 32
    large.update_batch(keys, np.arange(20000, dtype="u4"))
    assert len(large) == 20000
    found, values = large.lookup_batch()
    assert (found.dtype, values.dtype) == (np.dtype("u8"), np.dtype("u4"))
    order = np.argsort(found)
    assert np.array_equal(found[order], keys)
    assert np.array_equal(values[order], np.arange(20000))
    assert large.delete_batch(keys[:15000]) == 15000
    assert large.delete_batch(keys) == 5000
    flows = maps["flows"]
    flows[ADDRESS] = FLOW
    keys, values = flows.lookup_batch()
    assert values.dtype.names == ("packets", "bytes", "state", "low", "high")
    assert values["high"].tolist() == [4]
    values["high"] = 4000
    flows.update_batch(keys, values)
    assert flows[ADDRESS].high == 4000
    with pytest.raises(ValueError, match="there are 1 keys and 2 values"):
        flows.update_batch(keys, [FLOW, FLOW])
    with pytest.raises(OverflowError, match=r"map 'large' key\[1\] must be 0 to"):
        large.update_batch([1, -1], [1, 1])
    large.update_batch([], [])
    assert large.lookup_batch()[0].tolist() == []


def test_masked_values_of_a_map_of_each_cpu_are_refused(maps: dict[str, Map]) -> None:
    keys, values = maps["seen"].lookup_batch()
    masked = np.ma.array(values, mask=np.arange(values.size).reshape(values.shape) == 1)
    with pytest.raises(ValueError, match="map 'seen' value is masked in places"):
        maps["seen"].update_batch(keys, masked)
    maps["seen"].update_batch(keys, masked.filled(3))


def test_batches_of_lists_need_no_numpy() -> None:
    """Its import takes longer than all else."""
    program = (
        "import sys\n"
        "from netkit_bpf import Map\n"
        "made = Map.create('array', key_size=4, value_size=1, max_entries=2)\n"
        "made.update_batch([0, 1], [b'a', b'b'])\n"
        "assert dict(made) == {0: b'a', 1: b'b'}\n"
        "assert 'numpy' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_map_may_change_while_it_is_iterated_over(maps: dict[str, Map]) -> None:
    large = maps["large"]
    large.update_batch(range(1000), range(1000))
    for key in large:
        del large[key]
        large[key + 10000] = 1
    assert sorted(large) == list(range(10000, 11000))
    stop = threading.Event()

    def churn() -> None:
        number = 0
        while not stop.is_set():
            large[20000 + number % 500] = number
            large.pop(20000 + (number + 250) % 500, None)
            number += 1

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(20):
            keys = list(large)
            assert len(keys) == len(set(keys))
            assert set(range(10000, 11000)) <= set(keys)
            assert all(isinstance(value, int) for _, value in large.items())
    finally:
        stop.set()
        thread.join()


def test_a_copy_is_whole_while_others_delete(maps: dict[str, Map]) -> None:
    """No key is looked up after it was read: between the two it could be deleted."""
    large, tables = maps["large"], maps["tables"]
    large.update_batch(range(2000), range(2000))
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            for key in range(1000, 2000):
                del large[key]
            large.update_batch(range(1000, 2000), range(1000, 2000))

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(30):
            copies = [large.copy(), dict(large.items()), dict(zip(large.keys(), large, strict=False))]
            into: dict[Any, Any] = {}
            into.update(large.items())
            copies.append(into)
            for copied in copies[:2]:
                assert {key: copied[key] for key in range(1000)} == {key: key for key in range(1000)}
            assert large != {}
            assert -1 not in large.values()
            assert (5, 5) in large.items()
            assert len(list(large.values())) >= 1000
            recent = maps["recent"]
            recent.update(large)
    finally:
        stop.set()
        thread.join()
    # A map that is held by nobody any more is left out of what holds its number.
    with Map.create("array", key_size=4, value_size=8, max_entries=2) as inner:
        tables[0] = inner
        assert [held.id for held in tables.values()] == [inner.id]


def test_a_value_that_was_read_is_written_as_it_was(maps: dict[str, Map]) -> None:
    table = maps["table"]
    table[0] = FLOW
    table[1] = table[0]
    table[2] = table[1]._replace(packets=7)
    assert table[1] == table[0]
    assert table[2] == table[0]._replace(packets=7)
