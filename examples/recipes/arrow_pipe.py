# SPDX-License-Identifier: MIT
"""Packets through a pipe, as a stream of Arrow IPC: to another process, another language, or over ssh.

sudo python arrow_pipe.py write nk0 | python arrow_pipe.py read

Each message has the accounts of that moment as its metadata. So the reader knows what it must have, and a stream that
was cut off has no end.
"""

from __future__ import annotations

import json
import sys
from typing import Any, BinaryIO

import pyarrow

import netkit_bpf as nk


def write(monitor: nk.Monitor, pipe: BinaryIO, **limits: Any) -> None:
    """Write the packets until the limits of `Monitor.batches`."""
    export = nk.Export(monitor)
    stream = None
    for batch in monitor.batches(**limits):
        rows = pyarrow.record_batch(export.stamp(batch))
        stream = stream or pyarrow.ipc.new_stream(pipe, rows.schema)
        stream.write_batch(rows, custom_metadata=metadata(export))
        pipe.flush()
    if stream:
        stream.write_batch(rows[:0], custom_metadata=metadata(export))
        stream.close()


def metadata(export: nk.Export) -> dict[str, str]:
    """The accounts of this moment."""
    return {"accounts": json.dumps([account._asdict() for account in export.accounts()])}


def read(pipe: BinaryIO) -> dict[str, int]:
    """What came: rows, what the last accounts say, and how many rows are missing."""
    rows, missing, accounts = 0, 0, []
    with pyarrow.ipc.open_stream(pipe) as stream:
        while True:
            try:
                batch, metadata = stream.read_next_batch_with_custom_metadata()
            except StopIteration:
                break
            for number in batch["sequence"].to_pylist():
                missing = number - rows
                rows += 1
            accounts = json.loads(metadata["accounts"])
    told = {name: sum(account[name] for account in accounts) for name in ("seen", "delivered", "lost")}
    return {"rows": rows, **told, "missing": max(missing, told["delivered"] - rows)}


def main(action: str, pair: str = "") -> None:
    """Write to standard output, or read from standard input."""
    if action == "read":
        print(*(f"{name}={value}" for name, value in read(sys.stdin.buffer).items()))
        return
    with nk.Monitor(nk.NetkitPair.open(pair)) as monitor:
        write(monitor, sys.stdout.buffer)


if __name__ == "__main__":
    main(*sys.argv[1:])
