# SPDX-License-Identifier: MIT
"""What is exported reconciles: the recipes run as they are, and each is tried on what must be noticed."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars
import pyarrow
import pyarrow.parquet
import pytest

from elsewhere import needs_nats, needs_tcx, program
from examples import example
from netkit_bpf import Device, Export, Monitor, NetNS
from traffic import Wire, send_datagrams
from veth import veth_pair, veth_wire

pytestmark = needs_tcx

ADDED = ["schema_version", "host", "boot_id", "netns_cookie", "stream", "sequence"]
SMALL = 4096  # bytes of a ring that is soon full
PATIENCE = 30.0

loses = pytest.mark.filterwarnings("ignore:the monitor of ve0 loses packets:RuntimeWarning")


@pytest.fixture(scope="module", autouse=True)
def started(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Have these libraries start the threads that they keep."""
    pyarrow.set_cpu_count(1)
    table = pyarrow.table({"number": [1]})
    table.to_pandas()
    polars.DataFrame(table).sum()
    path = tmp_path_factory.mktemp("started") / "file"
    pyarrow.parquet.write_table(table, path)
    pyarrow.parquet.read_table(path)


def send(wire: Wire, packets: int) -> None:
    send_datagrams(wire.left, wire.right, [10] * packets)


def told(accounts: list[Any]) -> tuple[int, int, int, int]:
    seen, delivered, lost, pending = (
        sum(getattr(each, name) for each in accounts) for name in ("seen", "delivered", "lost", "pending")
    )
    assert seen == delivered + lost + pending
    return seen, delivered, lost, pending


def test_rows_say_where_they_come_from_and_have_the_numbers_from_0_on(wire: Wire) -> None:
    with Monitor(wire.pair) as monitor:
        export, other = Export(monitor), Export(monitor)
        send(wire, 5)
        first = export.stamp(monitor.read_batch(3, timeout=PATIENCE))
        second = export.stamp(monitor.read_batch(timeout=PATIENCE))
        assert (first.sequence, second.sequence.start) == (range(3), 3)
        table = pyarrow.Table.from_batches([pyarrow.record_batch(each) for each in (first, second)])
        assert table.schema.names[-len(ADDED) :] == ADDED
        assert table.schema.metadata == {b"netkit_bpf.schema_version": b"1"}
        assert table["sequence"].to_pylist() == list(range(table.num_rows))
        for name, value in {
            "schema_version": 1,
            "host": os.uname().nodename,
            "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            "netns_cookie": wire.pair.primary.netns.cookie,
            "stream": export.stream,
            "pair_name": "ve0",
        }.items():
            assert set(table[name].to_pylist()) == {value}, name
        assert other.stream != export.stream
        assert polars.DataFrame(second)["sequence"].to_list() == list(second.sequence)
        assert second.to_pandas()["sequence"].tolist() == list(second.sequence)

        lines = [json.loads(line) for each in (first, second) for line in each.json_lines()]
        rows = table.to_pylist()
        for line, row in zip(lines, rows, strict=True):
            assert line["type"] == "event"
            assert {name: line[name] for name in [*ADDED, "src", "dst_port"]} == {
                name: row[name] for name in [*ADDED, "src", "dst_port"]
            }
        accounts = export.accounts()
        assert [(each.side, each.pair_name, each.stream) for each in accounts] == [
            ("primary", "ve0", export.stream),
            ("peer", "ve0", export.stream),
        ]
        assert told(accounts)[1] == table.num_rows
        assert json.loads(accounts[0].to_json()) == {"type": "account", **accounts[0]._asdict()}


def test_two_pairs_of_one_name_have_the_cookies_of_their_namespaces(wire: Wire) -> None:
    # What a device sends by itself may come at any time.
    with veth_wire(4) as second, Monitor(wire.pair, second.pair, filter="udp") as monitor:
        export = Export(monitor)

        def stamped(packets: int) -> pyarrow.Table:
            batches: list[pyarrow.RecordBatch] = []
            while sum(each.num_rows for each in batches) < packets:
                batches.append(pyarrow.record_batch(export.stamp(monitor.read_batch(timeout=PATIENCE))))
                assert batches[-1].num_rows
            return pyarrow.Table.from_batches(batches)

        send(wire, 1)
        send(second, 1)
        rows = stamped(2)
        cookies = [each.pair.primary.netns.cookie for each in (wire, second)]
        assert len({*cookies}) == 2
        assert set(rows["netns_cookie"].to_pylist()) == {*cookies}
        assert set(rows["pair_name"].to_pylist()) == {"ve0"}
        accounts = export.accounts()
        assert [(each.netns_cookie, each.side) for each in accounts] == [
            (cookie, side) for cookie in cookies for side in ("primary", "peer")
        ]
        assert {each.pair_name for each in accounts} == {"ve0"}
        for cookie in cookies:
            stored = rows["netns_cookie"].to_pylist().count(cookie)
            assert told([each for each in accounts if each.netns_cookie == cookie])[1] == stored

        monitor.remove(second.pair)
        monitor.add(second.pair)
        send(second, 1)
        more = stamped(1)
        assert set(more["netns_cookie"].to_pylist()) == {cookies[1]}
        assert told(export.accounts())[1] == rows.num_rows + more.num_rows
        assert len(export.accounts()) == len(accounts)
    assert export.accounts()[0].delivered == accounts[0].delivered


def test_a_batch_of_another_reader_is_refused(wire: Wire) -> None:
    with veth_pair(wire.left.netns, wire.right.netns, "vx") as other, Monitor(wire.pair) as monitor:
        with Monitor(other, thread=None) as second:
            with pytest.raises(ValueError, match="this batch is of other pairs than the reader: of vx0"):
                Export(monitor).stamp(second.read_batch(timeout=0))
        with pytest.raises(TypeError, match="reader must be a PacketReader, not NetkitPair"):
            Export(wire.pair)  # type: ignore[arg-type]


def test_a_cookie_is_one_namespaces_alone() -> None:
    with NetNS.create() as one, NetNS.create() as other:
        assert one.cookie == one.cookie != other.cookie
        with NetNS.current() as here:
            assert here.cookie not in (one.cookie, other.cookie)
    with pytest.raises(ValueError, match="is deleted"):
        assert one.cookie


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """Files of two monitors, of which one loses packets."""
    recipe = example("recipes/parquet_and_duckdb")
    with veth_wire(4) as one, veth_wire(4) as other:
        with Monitor(one.pair) as whole, Monitor(other.pair, ring_size=SMALL, thread=None) as lossy:
            writers = [threading.Thread(target=recipe.write, args=(each, tmp_path, 2)) for each in (whole, lossy)]
            send(other, 200)
            for each in writers:
                each.start()
            send(one, 300)
            for each in writers:
                each.join()
            assert whole.stats.total.lost == 0 < lossy.stats.total.lost
            counts = {monitor.stats.total[:3] for monitor in (whole, lossy)}
        (tmp_path / "expected").write_text(json.dumps(sorted(counts)))
    return tmp_path


def run(recipe: str, *arguments: object) -> str:
    """A recipe as it is run; what it prints."""
    path = Path(__file__).parents[3] / "examples" / "recipes" / recipe
    command = [sys.executable, str(path), *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


@loses
def test_parquet_files_of_two_monitors_reconcile_and_a_lost_file_is_noticed(parquet: Path) -> None:
    recipe = example("recipes/parquet_and_duckdb")
    streams = recipe.check(parquet)
    counts = sorted([each["seen"], each["delivered"], each["lost"]] for each in streams)
    assert counts == json.loads((parquet / "expected").read_text())
    assert [(each["rows"], each["missing"], each["twice"]) for each in streams] == [
        (each["delivered"], 0, 0) for each in streams
    ]
    assert "missing=0 twice=0" in run("parquet_and_duckdb.py", parquet)

    lost, *_ = sorted(parquet.glob("events-*"))
    rows = pyarrow.parquet.read_metadata(lost).num_rows
    (parquet / "events-again.parquet").write_bytes(lost.read_bytes())
    assert sum(each["twice"] for each in recipe.check(parquet)) == rows
    (parquet / "events-again.parquet").unlink()
    lost.unlink()
    assert sum(each["missing"] for each in recipe.check(parquet)) == rows


@loses
@pytest.mark.needs("chdb")
def test_clickhouse_says_the_same(parquet: Path) -> None:
    """In a process of its own: it has threads that stay."""
    asked = [json.loads(line) for line in run("clickhouse.py", parquet).splitlines()]
    assert asked == example("recipes/parquet_and_duckdb").check(parquet)
    lost, *_ = sorted(parquet.glob("events-*"))
    rows = pyarrow.parquet.read_metadata(lost).num_rows
    lost.unlink()
    asked = [json.loads(line) for line in run("clickhouse.py", parquet).splitlines()]
    assert sum(each["missing"] for each in asked) == rows


def test_a_pipe_carries_rows_and_accounts_and_a_lost_message_is_noticed(wire: Wire) -> None:
    recipe = example("recipes/arrow_pipe")
    ours, theirs = os.pipe()
    with Monitor(wire.pair) as monitor, open(ours, "rb") as source:

        def write() -> None:
            with open(theirs, "wb") as sink:
                recipe.write(monitor, sink, timeout=1.0)

        writer = threading.Thread(target=write)
        writer.start()
        send(wire, 500)
        got = recipe.read(source)
        writer.join()
        seen, delivered, lost, _ = monitor.stats.total
        assert got == {"rows": delivered, "seen": seen, "delivered": delivered, "lost": lost, "missing": 0}
        assert seen >= 500

    whole, cut = io.BytesIO(), io.BytesIO()
    with Monitor(wire.pair) as monitor:
        send(wire, 3)
        recipe.write(monitor, whole, timeout=0.1)
    with pyarrow.ipc.open_stream(whole.getvalue()) as stream:
        first, _ = stream.read_next_batch_with_custom_metadata()
        with pyarrow.ipc.new_stream(cut, stream.schema) as left:
            try:
                while True:
                    rows, metadata = stream.read_next_batch_with_custom_metadata()
                    left.write_batch(rows, custom_metadata=metadata)
            except StopIteration:
                pass
    assert recipe.read(io.BytesIO(whole.getvalue()))["missing"] == 0
    assert recipe.read(io.BytesIO(cut.getvalue()))["missing"] == first.num_rows > 0


@contextmanager
def server(port: int, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [str(program("nats-server")), "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(directory)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


@needs_nats
def test_jetstream_has_every_row_though_its_server_was_killed(wire: Wire, tmp_path: Path) -> None:
    recipe = example("recipes/nats_jetstream")
    Device.open("lo").up()
    url, limits = "nats://127.0.0.1:4222", {"timeout": 3.0}
    with Monitor(wire.pair) as monitor:
        writer = threading.Thread(target=lambda: asyncio.run(recipe.write(monitor, url, **limits)))
        with server(4222, tmp_path):
            writer.start()
            send(wire, 500)
            wait_for_delivery(monitor)
        send(wire, 500)  # while it is away
        with server(4222, tmp_path):
            send(wire, 500)
            writer.join()
            seen, delivered, lost, pending = monitor.stats.total
            assert pending == 0
            (stored,) = asyncio.run(recipe.check(url)).values()
            counts = {"rows": delivered, "seen": seen, "delivered": delivered, "lost": lost}
            assert stored == {**counts, "missing": 0, "twice": 0}
            assert "missing=0 twice=0" in run("nats_jetstream.py", url)
            dropped = asyncio.run(drop_one(recipe, url))
            assert asyncio.run(recipe.check(url)).popitem()[1]["missing"] == dropped > 0


def wait_for_delivery(monitor: Monitor) -> None:
    end = time.monotonic() + PATIENCE
    while monitor.stats.primary.delivered == 0:
        assert time.monotonic() < end
        time.sleep(0.01)


async def drop_one(recipe: Any, url: str) -> int:
    """Delete a message of events; returns how many rows it had."""
    import nats

    connection = await nats.connect(url)
    jetstream = connection.jetstream()
    try:
        number = (await jetstream.stream_info(recipe.STREAM)).state.first_seq
        message = await jetstream.get_msg(recipe.STREAM, number)
        assert message.subject == recipe.EVENTS
        await jetstream.delete_msg(recipe.STREAM, number)
        return (message.data or b"").count(b"\n") + 1
    finally:
        await connection.close()
