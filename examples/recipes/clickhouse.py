# SPDX-License-Identifier: MIT
"""Packets from Parquet files in a table of ClickHouse, and whether all of them are there.

python clickhouse.py DIRECTORY      which parquet_and_duckdb.py wrote

This runs ClickHouse in the process, by chdb. A server takes the same statements, with the files in its user_files.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from chdb.session import Session

TABLE = """
create table packets engine = MergeTree order by (stream, sequence) as
select * from file('{directory}/events-*.parquet', Parquet)
"""
QUESTION = """
with stored as (
    select stream, count() as rows, uniqExact(sequence) as numbers, max(sequence) + 1 as next
    from packets group by stream
), last as (
    select stream, argMax(seen, time_ns) as seen, argMax(delivered, time_ns) as delivered, argMax(lost, time_ns) as lost
    from file('{directory}/accounts-*.jsonl', JSONEachRow) group by stream, netns_cookie, pair_name, side
), told as (
    select stream, sum(seen) as seen, sum(delivered) as delivered, sum(lost) as lost from last group by stream
)
select stream, toInt64(seen) as seen, toInt64(delivered) as delivered, toInt64(lost) as lost, toInt64(rows) as rows,
       greatest(toInt64(delivered), toInt64(next)) - toInt64(numbers) as missing,
       toInt64(rows) - toInt64(numbers) as twice
from told full join stored using (stream) order by stream format JSONEachRow
settings output_format_json_quote_64bit_integers = 0
"""


def check(directory: str) -> list[dict[str, Any]]:
    """For each stream: what its account says, the rows that are stored, missing and there twice."""
    with Session() as session:
        session.query("create database exports")
        session.query("use exports")
        session.query(TABLE.format(directory=directory))
        answer = session.query(QUESTION.format(directory=directory))
        return [json.loads(line) for line in str(answer).splitlines()]


if __name__ == "__main__":
    for stream in check(sys.argv[1]):
        print(json.dumps(stream))
