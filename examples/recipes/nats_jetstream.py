# SPDX-License-Identifier: MIT
"""Packets as lines of JSON in NATS JetStream, each acknowledged once it is stored.

sudo python nats_jetstream.py nats://127.0.0.1:4222 nk0     until Ctrl-C
python nats_jetstream.py nats://127.0.0.1:4222              says what is there, what was lost and what is missing

A message has the number of its first row as its id, and is sent again until the server acknowledges it; the server
drops one that it has. While the server is away, packets wait in the monitor's queue and ring. What no longer fits there
is lost, and the account says how much.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections import defaultdict
from typing import Any

import nats
from nats.errors import Error
from nats.js import JetStreamContext

import netkit_bpf as nk

STREAM, EVENTS, ACCOUNTS = "NETKIT", "netkit.events", "netkit.accounts"
ROWS = 200  # in a message, which may have a megabyte


async def put(jetstream: JetStreamContext, subject: str, lines: list[str], name: str) -> None:
    """Send a message until it is stored."""
    stored = None
    while stored is None:
        try:
            stored = await jetstream.publish(subject, "\n".join(lines).encode(), 2.0, headers={"Nats-Msg-Id": name})
        except (Error, OSError):  # the server is away, or not ready yet
            await asyncio.sleep(0.1)


async def write(monitor: nk.Monitor, server: str, **limits: Any) -> None:
    """Send the packets until the limits of `Monitor.batches`."""

    async def ignore(_: Exception) -> None:
        """What fails is tried again."""

    export = nk.Export(monitor)
    connection = await nats.connect(server, error_cb=ignore, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    jetstream = connection.jetstream()
    await jetstream.add_stream(name=STREAM, subjects=[EVENTS, ACCOUNTS])

    async def account() -> None:
        for each in export.accounts():
            await put(
                jetstream,
                ACCOUNTS,
                [each.to_json()],
                f"{each.stream}-{each.time_ns}-{each.netns_cookie}-{each.pair_name}-{each.side}",
            )

    async for batch in monitor.batches(**limits):
        rows = export.stamp(batch)
        lines = rows.json_lines()
        for first in rows.sequence[::ROWS]:
            await put(jetstream, EVENTS, [*itertools.islice(lines, ROWS)], f"{export.stream}-{first}")
        await account()
    await account()
    await connection.close()


async def check(server: str) -> dict[str, dict[str, int]]:
    """For each stream: its rows, what its last accounts say, and the rows that are missing and there twice."""
    connection = await nats.connect(server)
    jetstream = connection.jetstream()
    numbers: dict[str, list[int]] = defaultdict(list)
    accounts: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    waiting = await jetstream.pull_subscribe("netkit.*", stream=STREAM)
    try:
        while True:
            for message in await waiting.fetch(100, timeout=1.0):
                for row in map(json.loads, message.data.decode().split("\n")):
                    if row["type"] == "event":
                        numbers[row["stream"]].append(row["sequence"])
                    else:
                        accounts[row["stream"]][f"{row['netns_cookie']} {row['pair_name']} {row['side']}"] = row
    except asyncio.TimeoutError:
        pass  # that was all
    await connection.close()
    found = {}
    for stream in numbers.keys() | accounts.keys():
        rows, once = numbers[stream], len(set(numbers[stream]))
        told = {
            name: sum(account[name] for account in accounts[stream].values()) for name in ("seen", "delivered", "lost")
        }
        wanted = max([told["delivered"], *(number + 1 for number in rows)])
        found[stream] = {"rows": len(rows), **told, "missing": wanted - once, "twice": len(rows) - once}
    return found


def main(server: str, pair: str | None = None) -> None:
    """Write, or check."""
    if pair is None:
        for stream, counts in asyncio.run(check(server)).items():
            print(f"stream={stream}", *(f"{name}={value}" for name, value in counts.items()))
        return
    with nk.Monitor(nk.NetkitPair.open(pair)) as monitor:
        asyncio.run(write(monitor, server))


if __name__ == "__main__":
    main(*sys.argv[1:])
