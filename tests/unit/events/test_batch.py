"""Batches of events, made from records without a kernel."""

from __future__ import annotations

import copy
import io
import pickle
import random
import struct
import subprocess
import sys
import threading
from ipaddress import IPv6Address
from pathlib import Path

import dpkt
import numpy
import pytest

from event_records import (
    DISCARDED,
    FRAGMENT,
    HOUR,
    ICMP,
    IP,
    KINDS,
    PORTS,
    PROTOCOL,
    TWELVE,
    VLAN,
    batch,
    event,
    events,
    named,
    record,
)
from netkit_bpf import EventBatch, _core
from tables import check_array


def test_a_batch_is_a_sequence_of_its_events() -> None:
    made = list(map(named, events()))
    table = batch(events())
    assert len(table) == len(made) == 9
    assert list(table) == made
    assert [table[i] for i in range(-9, 9)] == made + made
    assert list(reversed(table)) == made[::-1]
    assert made[3] in table
    assert table.pair_names == ("nk0", "nk1")
    for outside in (9, -10, 10**30):
        with pytest.raises(IndexError, match="in a batch of 9"):
            table[outside]


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_of_a_batch_has_the_fields_of_its_record(kind: str) -> None:
    made = named(event(**{"gso_segs": 1} | KINDS[kind]))
    (from_batch,) = batch([made])
    assert from_batch.asdict() == made.asdict()
    assert from_batch == made


def test_random_records_survive() -> None:
    """Whatever a record holds, as long as it could be one of the program's."""
    chance = random.Random(8200)
    made = []
    for _ in range(2000):
        flags = chance.choice([0, IP, IP | PROTOCOL, IP | PROTOCOL | PORTS, IP | PROTOCOL | ICMP, IP | FRAGMENT | VLAN])
        ports = chance.randrange(256 if flags & ICMP else 65536), chance.randrange(256 if flags & ICMP else 65536)
        version = chance.choice([4, 6]) if flags & IP else 0
        word = version << 28 | (chance.randrange(256) << 20 | chance.randrange(1 << 20) * (version == 6)) * bool(
            version
        )
        made.append(
            event(
                timestamp=chance.randrange(1 << 62), src=chance.randbytes(16), dst=chance.randbytes(16),
                ip_word=word, flags=flags, src_port=ports[0], dst_port=ports[1], vlan_tci=chance.randrange(65536),
                fragment=chance.randrange(8192) * 8 + chance.randrange(2), gso_segs=chance.randrange(1, 65536),
                length=chance.randrange(1 << 32), payload_len=chance.randrange(1 << 32), side=chance.randrange(2),
                ethertype=chance.randrange(65536), hop_limit=chance.randrange(256), pair=chance.randrange(2),
            )
        )  # fmt: skip
    assert list(batch(made)) == list(map(named, made))


def test_timestamps_are_moved_to_unix_time_once() -> None:
    made = events()
    raw = b"".join(map(record, made))
    table = EventBatch._of(_core.EventBatch.from_records(raw, False, HOUR, ("nk0", "nk1")))
    times = [each.timestamp_ns + HOUR for each in made]
    assert [each.timestamp_ns for each in table] == times
    assert numpy.asarray(table)["timestamp_ns"].tolist() == times
    assert [each.timestamp_ns for each in table[2:]] == times[2:]


def test_discarded_records_are_left_out() -> None:
    made = events()
    gone = [0, 3, 4, 8]
    raw = b"".join(record(each, flag=DISCARDED * (i in gone)) for i, each in enumerate(made))
    raw += struct.pack("=II", 13 | DISCARDED, 0) + bytes(16)
    table = EventBatch._of(_core.EventBatch.from_records(raw, False, 0, ("nk0", "nk1")))
    assert list(table) == [named(each) for i, each in enumerate(made) if i not in gone]


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (record(event(), data=b"12345678"), "a record has 96 bytes, not 88"),
        (struct.pack("=II", 64, 0) + bytes(64), "a record has 64 bytes: it is not a packet event"),
        (record(events(1)[0])[:-8], "a record is cut short: it is not a packet event"),
        (record(event(pair=2)), "a record is of pair 2 of 2 and side 1"),
        (record(event()) + record(event(side=2)), "a record is of pair 0 of 2 and side 2"),
    ],
)
def test_what_is_no_record_is_refused(raw: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        _core.EventBatch.from_records(raw, False, 0, ("nk0", "nk1"))


def test_slices_are_those_of_a_list() -> None:
    table, made = batch(events()), list(map(named, events()))
    edges = [None, 0, 1, 4, 8, 9, 12, -1, -4, -9, -12]
    for start in edges:
        for stop in edges:
            for step in (None, 1, 2, 4, 20, -1, -2, -20):
                part = slice(start, stop, step)
                assert list(table[part]) == made[part], part
    assert list(table[2:8][1:-1][::2]) == made[2:8][1:-1][::2]


def test_a_slice_shares_memory_and_a_step_copies() -> None:
    table = batch(events())
    whole = numpy.asarray(table)
    assert numpy.shares_memory(whole, numpy.asarray(table[3:7]))
    assert not numpy.shares_memory(whole, numpy.asarray(table[::2]))
    part = table[3:7]
    del table, whole
    assert list(part) == list(map(named, events()))[3:7]


def test_a_mask_selects() -> None:
    table, made = batch(events()), list(map(named, events()))
    ports = numpy.asarray(table)["dst_port"] == 443
    chosen = [each for each in made if each.dst_port == 443]
    assert 0 < len(chosen) < 9
    for mask in (ports, ports.tolist(), tuple(ports.tolist()), numpy.repeat(ports, 2)[::2]):
        assert list(table[mask]) == chosen
    assert list(table[[False] * 9]) == []
    assert table[[True] * 9] == table
    assert not numpy.shares_memory(numpy.asarray(table[[True] * 9]), numpy.asarray(table))


@pytest.mark.parametrize(
    ("index", "error", "says"),
    [
        ([True] * 8, IndexError, "9 booleans, not 8"),
        (numpy.ones(10, bool), IndexError, "9 booleans, not 10"),
        (numpy.ones((9, 1), bool), TypeError, "not an array of bool with 2 dimensions"),
        (numpy.ones(9, int), TypeError, "not an array of int64"),
        ([1] * 9, TypeError, "not a list"),
        ("fd00::1", KeyError, "no column 'fd00::1': there are timestamp_ns"),
        (b"\1" * 9, TypeError, "not a bytes"),
        (1.0, TypeError, "not a float"),
        (None, TypeError, "not a NoneType"),
    ],
)
def test_any_other_index_is_refused(index: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        batch(events())[index]  # type: ignore[call-overload]


def test_concat_puts_batches_end_to_end() -> None:
    table, made = batch(events()), list(map(named, events()))
    assert list(EventBatch.concat([table[:2], table[2:], table[:0]])) == made
    assert list(EventBatch.concat(iter([table[5:], table[:5]]))) == made[5:] + made[:5]
    assert EventBatch.concat([table]) == table
    assert len(EventBatch.concat([])) == 0
    with pytest.raises(TypeError, match="each of batches must be an EventBatch, not list"):
        EventBatch.concat([made])  # type: ignore[list-item]


def test_concat_knows_pairs_by_name() -> None:
    left, right = batch(events(), ("nk0", "nk1")), batch(events(), ("nk1", "nk2"))
    both = EventBatch.concat([left, right])
    assert both.pair_names == ("nk0", "nk1", "nk2")
    assert [each.pair_name for each in both] == [each.pair_name for each in left] + [each.pair_name for each in right]
    twins = batch(events(), ("nk0", "nk0"))  # in two namespaces
    assert list(EventBatch.concat([twins, twins])) == list(twins) * 2


def test_batches_are_immutable_values() -> None:
    one, other = batch(events()), batch(events())
    assert one == other
    assert one[1:] == other[1:]
    assert one[1:] != one[:-1]
    assert one != batch(events(), ("nk0", "nk2"))
    assert one != list(one)
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)
    with pytest.raises(AttributeError):
        one.anything = 1  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="cannot create EventBatch"):
        EventBatch()
    with pytest.raises(ValueError, match="read-only"):
        numpy.asarray(one)["length"][0] = 1
    assert memoryview(one._rows).readonly


def test_batches_can_be_copied_and_pickled() -> None:
    table = batch(events())[2:7]
    for again in (copy.copy(table), copy.deepcopy(table), *(pickle.loads(pickle.dumps(table, p)) for p in range(6))):
        assert again == table
        assert list(again) == list(table)
        assert again.pair_names == table.pair_names
    assert len(pickle.dumps(table)) < 5 * 80 + 200  # the slice alone
    with pytest.raises(ValueError, match="79 bytes are not whole rows of 96"):
        _core.EventBatch.from_rows(bytes(79), None, ("nk0",))
    with pytest.raises(ValueError, match="row 0 names an unknown pair or side"):
        _core.EventBatch.from_rows(bytes(96), None, ())
    with pytest.raises(ValueError, match="there are 1 rows, and data of 0"):
        _core.EventBatch.from_rows(bytes(96), [], ("nk0",))


def test_repr_tells_number_and_time() -> None:
    table = batch(events(3))
    assert repr(table).startswith("<EventBatch 3 events, 22:13:20.200 to 22:13:22.200 UTC: ")
    assert repr(table[:0]) == "<EventBatch 0 events>"


def test_an_empty_batch_is_false_and_an_array() -> None:
    empty = batch(events())[:0]
    assert not empty
    assert list(empty) == []
    assert numpy.asarray(empty).shape == (0,)
    assert numpy.asarray(batch([])).shape == (0,)
    assert empty[numpy.zeros(0, bool)] == empty[::-1] == EventBatch.concat([empty])
    assert pickle.loads(pickle.dumps(empty)) == empty


def test_an_array_has_the_fields_of_its_events() -> None:
    check_array(batch(events()))


def test_an_array_copies_nothing_and_keeps_the_memory() -> None:
    table = batch(events())
    array = numpy.asarray(table)
    assert numpy.shares_memory(array, numpy.asarray(table))
    assert not array.flags.writeable
    assert array.dtype.itemsize == 96
    expected = [each.length for each in table]
    del table
    assert array["length"].tolist() == expected


def test_an_array_can_be_asked_for_otherwise() -> None:
    table = batch(events())
    assert numpy.array(table).flags.writeable
    assert not numpy.shares_memory(table.__array__(copy=True), table.__array__())
    assert numpy.shares_memory(table.__array__(copy=False), table.__array__())
    times = numpy.asarray(table)["timestamp_ns"].view("datetime64[ns]")
    assert str(times[0]) == "2023-11-14T22:13:20.200000000"
    assert numpy.asarray(table, dtype=object)[0][8] == 40000
    with pytest.raises(ValueError, match="without a copy"):
        table.__array__(object, copy=False)


def test_addresses_in_an_array_compare_and_sort() -> None:
    array = numpy.asarray(batch(events()))
    wanted = IPv6Address("fd00::2").packed
    assert (array["src"] == wanted).sum() == 6
    assert numpy.isin(array["src"], numpy.array([wanted])).sum() == 6
    assert len(numpy.unique(array["src"])) == 4


def test_the_first_bytes_of_packets_go_with_their_rows() -> None:
    captured = [TWELVE, b"", TWELVE[:5], b"x" * 100]
    made = [record(each, data=data) for each, data in zip(events(4), captured, strict=True)]
    gone = record(event(), flag=DISCARDED, data=b"gone")
    table = EventBatch._of(_core.EventBatch.from_records(gone.join(made), True, 0, ("nk0", "nk1")))
    said = [data or None for data in captured]
    assert [each.data for each in table] == said
    assert [each.data for each in table[::-1]] == said[::-1]
    assert [each.data for each in table[1:][1:]] == said[2:]
    assert [each.data for each in table[1:][[True, False, True]]] == [said[1], said[3]]
    assert numpy.asarray(table)["length"].tolist() == [each.length for each in table]
    for again in (pickle.loads(pickle.dumps(table)), copy.copy(table), EventBatch.concat([table[:2], table[2:]])):
        assert again == table
        assert list(again) == list(table)

    without = batch(events(4))
    assert without != table
    assert [each.data for each in EventBatch.concat([table, without])] == said + [None] * 4


def test_what_is_kept_of_packets_outlives_the_batch() -> None:
    table = EventBatch._of(_core.EventBatch.from_records(record(event(), data=TWELVE), True, 0, ("nk0",)))
    parts = [table[:1], table[::-1], table[[True]], EventBatch.concat([table])]
    del table
    assert [part[0].data for part in parts] == [TWELVE] * 4


def test_a_batch_is_written_to_a_capture_file(tmp_path: Path) -> None:
    captured = [bytes([i]) * (60 + i) for i in range(200)]
    made = [event(length=len(data), side=i % 2, pair=i % 3 % 2) for i, data in enumerate(captured)]
    raw = b"".join(record(each, data=data) for each, data in zip(made, captured, strict=True))
    table = EventBatch._of(_core.EventBatch.from_records(raw, True, 0, ("nk0", "nk1")))
    target = tmp_path / "x.pcapng"
    table.to_pcapng(target)
    with target.open("rb") as file:
        names = ["nk0", "nk0 (peer)", "nk1", "nk1 (peer)"]
        reader = dpkt.pcapng.Reader(file)
        assert [data for _, data in reader] == captured
    content = target.read_bytes()
    assert all(name.encode() in content for name in names)
    into = io.BytesIO()
    table.to_pcapng(into)
    assert into.getvalue() == content
    with pytest.raises(ValueError, match="make the monitor with a snaplen"):
        batch(made[:1]).to_pcapng(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_threads_share_a_batch() -> None:
    table, made = batch(events(900)), list(map(named, events(900)))
    results: list[bool] = []

    def use() -> None:
        results.append(all(list(table) == made and list(table[::-1][::-1]) == made for _ in range(5)))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 4


def test_numpy_is_imported_when_it_is_needed() -> None:
    names = "numpy", "pandas", "pyarrow", "asyncio"
    program = f"import sys, netkit_bpf; print([name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_name_gives_the_column() -> None:
    table = batch(events(40))
    array = numpy.asarray(table)
    for name in array.dtype.names or ():
        assert numpy.array_equal(table[name], array[name])
        assert numpy.shares_memory(table[name], array)
    assert table["length"].tolist() == [made.length for made in table]
    assert table._ipython_key_completions_() == list(array.dtype.names or ())
    with pytest.raises(KeyError, match="no column 'size': there are timestamp_ns, pair_name, side"):
        table["size"]
