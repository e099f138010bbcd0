"""Batches as Arrow tables, in the libraries that take them."""

from __future__ import annotations

import ctypes
import gc
import re
import statistics
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import duckdb
import numpy
import pandas
import polars
import pyarrow
import pytest

from event_records import IP, TWELVE, VLAN, batch, event, events, record
from netkit_bpf import EventBatch, PacketEvent, _core
from tables import row

MOST_BITS = ":".join(["ffff"] * 8)
TAG_BESIDE = 1 << 7
SIZES = [0, 1, 2, 7, 8, 9, 63, 64, 65, 255, 256, 257, 1000]


@pytest.fixture(scope="module", autouse=True)
def libraries() -> Iterator[None]:
    """Have these libraries start the threads that they keep."""
    table = batch(events())
    polars.concat([polars.DataFrame(table)] * 2).group_by("src").len()
    duckdb.sql("set threads = 1")
    pyarrow.set_cpu_count(1)
    table.to_pandas()
    yield
    duckdb.default_connection().close()


def rows(table: pyarrow.RecordBatch | pyarrow.Table) -> list[dict[str, Any]]:
    """The rows of a table with times as integers: Python's own have no nanoseconds."""
    index = table.schema.get_field_index("timestamp_ns")
    return table.set_column(index, "timestamp_ns", table.column(index).cast("int64")).to_pylist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("size", SIZES)
def test_a_table_says_what_its_events_say(size: int) -> None:
    table = pyarrow.record_batch(batch(events(size)))
    table.validate(full=True)
    assert rows(table) == list(map(row, batch(events(size))))


@pytest.mark.parametrize("start", [0, 1, 3, 8, 13])
def test_slices_and_masks_make_tables(start: int) -> None:
    whole = batch(events(40))
    for part in (whole[start:], whole[start:-1], whole[start::3], whole[[i > start for i in range(40)]]):
        assert rows(pyarrow.record_batch(part)) == list(map(row, part))


def test_the_columns_are_typed() -> None:
    schema = pyarrow.schema(batch([]))
    assert schema == pyarrow.record_batch(batch(events())).schema
    texts = pyarrow.large_string()
    assert schema.field("timestamp_ns").type == pyarrow.timestamp("ns", "UTC")
    assert schema.field("src").type == schema.field("pair_name").type == pyarrow.dictionary(pyarrow.int32(), texts)
    assert schema.field("side").type == pyarrow.dictionary(pyarrow.int8(), texts)
    assert schema.field("src_port").type == pyarrow.uint16()
    assert {field.name for field in schema if not field.nullable} == {
        "timestamp_ns", "pair_name", "side", "length", "gso_segs", "ethertype",
    }  # fmt: skip


def test_the_columns_are_named_as_in_the_array() -> None:
    array = numpy.asarray(batch([]))
    assert array.dtype.names is not None
    assert [*pyarrow.schema(batch([])).names, "flags"] == list(array.dtype.names)


def test_a_table_outlives_its_batch() -> None:
    table = batch(events(20))
    expected = list(map(row, table))
    whole, column = pyarrow.record_batch(table), pyarrow.record_batch(table).column("src")
    del table
    gc.collect()
    assert rows(whole) == expected
    del whole
    assert column.to_pylist() == [each["src"] for each in expected]


def test_many_addresses_are_told_apart() -> None:
    """More of them than the first table of hashes has room for, and IPv4 ones that IPv6 ones begin with."""
    made = []
    for i in range(3000):
        bits = i.to_bytes(4, "big") + bytes(12)
        made.append(event(src=bits, dst=bits[::-1], ip_word=(4 if i % 2 else 6) << 28, gso_segs=1))
        made.append(event(src=bits, dst=bits[::-1], ip_word=(6 if i % 2 else 4) << 28, gso_segs=1))
    table = pyarrow.record_batch(batch(made))
    assert len(table.column("src").dictionary) == 6000
    assert [ip_address(text) for text in table.column("src").to_pylist()] == [each.src for each in made]
    assert [ip_address(text) for text in table.column("dst").to_pylist()] == [each.dst for each in made]


def test_a_tag_beside_the_packet_makes_no_flow_label() -> None:
    made = event(ip_word=4 << 28, flags=IP | VLAN | TAG_BESIDE, vlan_tci=7)
    (row_,) = pyarrow.record_batch(batch([made])).to_pylist()
    assert (row_["flow_label"], row_["vlan_id"]) == (None, 7)


def test_a_dictionary_holds_what_occurs() -> None:
    table = batch(events(9))
    assert set(pyarrow.record_batch(table[:1]).column("src").dictionary.to_pylist()) == {"fd00::2"}
    assert pyarrow.record_batch(table).column("pair_name").dictionary.to_pylist() == ["nk0", "nk1"]


def test_the_first_bytes_of_packets_are_a_column() -> None:
    captured = [TWELVE, TWELVE[:6], b""]
    raw = b"".join(record(event(), data=data) for data in captured)
    table = EventBatch._of(_core.EventBatch.from_records(raw, True, 0, ("nk0",)))
    arrow = pyarrow.record_batch(table)
    assert arrow.schema == pyarrow.schema(table)
    assert arrow.column("data").to_pylist() == captured
    assert polars.DataFrame(table)["data"].to_list() == arrow.column("data").to_pylist()


def test_polars_takes_a_batch() -> None:
    table = batch(events(900))
    frame = polars.DataFrame(table)
    assert frame.schema["timestamp_ns"] == polars.Datetime("ns", "UTC")
    assert frame.schema["src"] == polars.Categorical
    assert frame.drop("timestamp_ns").rows(named=True) == [without_time(made) for made in table]
    assert frame["timestamp_ns"].dt.epoch("ns").to_list() == [made.timestamp_ns for made in table]
    assert frame.filter(polars.col("src") == "fd00::2").height == sum(str(made.src) == "fd00::2" for made in table)
    twice = polars.concat([frame, polars.DataFrame(table[1::3])])  # dictionaries that differ
    assert twice["src"].to_list() == frame["src"].to_list() + polars.DataFrame(table[1::3])["src"].to_list()


def without_time(made: PacketEvent) -> dict[str, Any]:
    fields = row(made)
    del fields["timestamp_ns"]
    return fields


def test_duckdb_takes_a_batch() -> None:
    packets = batch(events(900))
    names = [name for name in row(packets[0]) if name != "timestamp_ns"]
    everything = f"select epoch_ns(timestamp_ns), {', '.join(names)} from packets"
    assert duckdb.execute(everything).fetchall() == [
        (made.timestamp_ns, *without_time(made).values()) for made in packets
    ]
    query = "select src, count(*) from packets where dst_port = 443 group by src order by src"
    assert duckdb.execute(query).fetchall() == [("192.0.2.1", 100), ("fd00::2", 300), (MOST_BITS, 100)]


def test_pandas_takes_a_batch() -> None:
    table = batch(events(900))
    frame = table.to_pandas()
    assert str(frame.dtypes["timestamp_ns"]) == "datetime64[ns, UTC]"
    assert str(frame.dtypes["src_port"]) == "UInt16"
    assert isinstance(frame.dtypes["src"], pandas.CategoricalDtype)
    for made, (_, said) in zip(table, frame.iterrows(), strict=True):
        expected = row(made)
        assert said.pop("timestamp_ns").value == expected.pop("timestamp_ns")
        assert {name: None if pandas.isna(value) else value for name, value in said.items()} == expected
    assert (frame["src"] == "fd00::2").sum() == 600
    assert list(table[frame["dst_port"].eq(443).fillna(False)]) == [made for made in table if made.dst_port == 443]


def test_to_pandas_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"needs pandas and pyarrow: pip install 'netkit-bpf\[pandas\]'"):
        batch(events()).to_pandas()


class Malloc:
    """The bytes that the C library's allocator has given out."""

    class _Info(ctypes.Structure):  # struct mallinfo2, mallinfo(3)
        _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keep")
        _fields_ = tuple((name, ctypes.c_size_t) for name in _names)

    def __init__(self) -> None:
        self._mallinfo2 = ctypes.CDLL(None).mallinfo2
        self._mallinfo2.restype = self._Info

    def used(self) -> int:
        gc.collect()
        info = self._mallinfo2()
        return int(info.uordblks + info.hblkhd)


@pytest.mark.parametrize("how", ["array", "schema", "stream", "unused stream", "column", "broken"])
def test_what_is_exported_is_released(how: str) -> None:
    """By its consumer, in any order, or with its capsule if there is none."""
    table = batch(events(5000))
    malloc = Malloc()

    def use() -> None:
        if how == "array":
            pyarrow.record_batch(table)
        elif how == "schema":
            pyarrow.schema(table)
        elif how == "stream":
            pyarrow.table(table)
        elif how == "unused stream":
            table.__arrow_c_stream__()
            table.__arrow_c_array__()
            table.__arrow_c_schema__()
        elif how == "column":
            column = pyarrow.record_batch(table).column("dst")
            assert column[0].as_py()
        else:
            with pytest.raises(ValueError, match="incorrect name"):
                pyarrow.RecordBatch._import_from_c_capsule(*table.__arrow_c_array__()[::-1])

    for _ in range(3):
        use()
    growth = []
    for _ in range(5):
        before = malloc.used()
        for _ in range(50):
            use()
        growth.append(malloc.used() - before)
    # One table has 300,000 bytes, and what leaks, leaks every time. Threads of the libraries that other tests use take
    # and give memory of their own meanwhile: they disturb a measurement, and not most of them.
    assert statistics.median(growth) < 100_000, growth


def test_a_stream_ends_after_its_table() -> None:
    reader = pyarrow.RecordBatchReader.from_stream(batch(events()))
    assert [len(each) for each in reader] == [9]
    assert pyarrow.table(batch([])).num_rows == 0


@pytest.mark.parametrize("way", re.findall(r"[\w.]+\(batch\)|batch[\w.\[\]\"()]+", repr(batch(events(1)))))
def test_the_ways_that_a_batch_shows_exist(way: str) -> None:
    names = {"batch": batch(events(20)), "numpy": numpy, "polars": polars, "pandas": pandas}
    assert len(eval(way, names)) == 20


def test_the_array_is_what_pandas_takes_as_a_frame() -> None:
    """Addresses are bytes without their last zeros, which can be put back."""
    made = events(40)
    frame = pandas.DataFrame(numpy.asarray(batch(made)))
    assert list(frame) == list(numpy.asarray(batch(made)).dtype.names or ())
    for each, family, source in zip(made, frame["family"], frame["src"], strict=True):
        if each.src is not None:
            assert ip_address(source.ljust(16, b"\0")[: 4 if family == 4 else 16]) == each.src
    assert set(numpy.unique(numpy.asarray(batch(made))["src"])) == {
        b"" if each.src is None else each.src.packed.rstrip(b"\0") for each in made
    }
