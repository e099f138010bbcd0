# SPDX-License-Identifier: MIT
"""Packets in Parquet files, a part a second, and DuckDB to say whether all of them are there.

sudo python parquet_and_duckdb.py DIRECTORY nk0     until Ctrl-C; any number of these may write to one directory
python parquet_and_duckdb.py DIRECTORY              says what is there, what was lost and what is missing
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow
import pyarrow.parquet

import netkit_bpf as nk


def write(monitor: nk.Monitor, directory: Path, parts: int | None = None) -> None:
    """Write a file of rows each second in which there are packets, and the account of it."""
    export = nk.Export(monitor)
    with (directory / f"accounts-{export.stream}.jsonl").open("a") as accounts:
        for number in itertools.count() if parts is None else range(parts):
            rows = [pyarrow.record_batch(export.stamp(batch)) for batch in monitor.batches(duration=1.0)]
            if rows:
                name = f"{export.stream}-{number:06}.parquet"
                pyarrow.parquet.write_table(pyarrow.Table.from_batches(rows), directory / f"unfinished-{name}")
                (directory / f"unfinished-{name}").rename(directory / f"events-{name}")
            accounts.writelines(f"{account.to_json()}\n" for account in export.accounts())
            accounts.flush()


QUESTION = """
with stored as (
    select stream, count(*) as rows, count(distinct sequence) as numbers, max(sequence) + 1 as next
    from read_parquet('{directory}/events-*.parquet') group by stream
), last as (
    select stream, arg_max(seen, time_ns) as seen, arg_max(delivered, time_ns) as delivered,
           arg_max(lost, time_ns) as lost
    from read_json('{directory}/accounts-*.jsonl') group by stream, netns_cookie, pair_name, side
), told as (
    select stream, sum(seen)::bigint as seen, sum(delivered)::bigint as delivered, sum(lost)::bigint as lost
    from last group by stream
)
select stream, seen, delivered, lost, coalesce(rows, 0) as rows,
       greatest(coalesce(delivered, 0), coalesce(next, 0)) - coalesce(numbers, 0) as missing,
       coalesce(rows - numbers, 0) as twice
from told full join stored using (stream) order by stream
"""


def check(directory: Path) -> list[dict[str, Any]]:
    """For each stream: what its account says, the rows that are stored, missing and there twice."""
    with duckdb.connect() as database:
        found = database.execute(QUESTION.format(directory=directory))
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def main(directory: str, pair: str | None = None) -> None:
    """Write, or check."""
    if pair is None:
        for stream in check(Path(directory)):
            print(*(f"{name}={value}" for name, value in stream.items()))
        return
    with nk.Monitor(nk.NetkitPair.open(pair)) as monitor:
        write(monitor, Path(directory))


if __name__ == "__main__":
    main(*sys.argv[1:])
