"""The consumer under test: ours.py iterate|batch|latency [threaded|inline] [RING_BYTES].

Says "ready PROGRAM_ID", reads until SIGTERM, then says how many records, nanoseconds of CPU, and latencies.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable

from wire import pair

from netkit_bpf import Monitor
from netkit_bpf.internal.arguments import Thread


def main() -> None:
    """Read until SIGTERM."""
    mode = sys.argv[1]
    if mode == "batch":
        import numpy  # noqa: F401 - takes as long as a ring full of packets: not while they come
    thread: Thread | None = None if "inline" in sys.argv[2:] else "shared"
    ring_size = int(sys.argv[3]) if len(sys.argv) > 3 else 4 << 20
    with pair() as wire, Monitor(wire, sides=["primary"], ring_size=ring_size, thread=thread) as monitor:
        print("ready", wire.programs("primary").programs[0].id, file=sys.stderr, flush=True)
        stopped = False

        def stop(*_: object) -> None:
            nonlocal stopped
            stopped = True

        signal.signal(signal.SIGTERM, stop)
        start = time.process_time_ns()
        records, latencies = (
            _batches(monitor, lambda: stopped) if mode == "batch" else _events(monitor, mode, lambda: stopped)
        )
        words = [records, time.process_time_ns() - start]
        if latencies:
            latencies.sort()
            words += [latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100]]
        stats = monitor.stats.primary
        assert stats.seen == stats.delivered + stats.lost + stats.pending, stats
        print(*words, file=sys.stderr, flush=True)


def _events(monitor: Monitor, mode: str, is_stopped: Callable[[], bool]) -> tuple[int, list[int]]:
    records = 0
    latencies: list[int] = []
    while not is_stopped():
        for event in monitor.events(timeout=0.1):
            if mode == "latency":
                latencies.append(time.time_ns() - event.timestamp_ns)
            else:
                event.src_port  # noqa: B018 - the access is what is measured
                event.payload_len  # noqa: B018
            records += 1
    return records, latencies


def _batches(monitor: Monitor, is_stopped: Callable[[], bool]) -> tuple[int, list[int]]:
    import numpy as np

    records = 0
    while not is_stopped():
        for batch in monitor.batches(timeout=0.1):
            records += len(np.asarray(batch))
    return records, []


if __name__ == "__main__":
    main()
