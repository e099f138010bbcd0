# SPDX-License-Identifier: MIT
"""Reading in tasks: the loop stays free, whoever is cancelled loses nothing, and closing wakes all."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
import trio
import trio.testing

from elsewhere import need, needs_tcx
from netkit_bpf import EventBatch, Monitor, NetkitPair, PacketEvent
from netkit_bpf.events.batch import BatchReader
from sender import Sender
from veth import quiet_pair

pytestmark = needs_tcx

LONG = 30.0  # seconds: far longer than anything takes
READERS = 50
Main = Callable[[], Coroutine[Any, Any, None]]


@pytest.fixture
def pair() -> Iterator[NetkitPair]:
    with quiet_pair() as made:
        yield made


@pytest.fixture(params=["shared", None], ids=["a thread reads", "tasks read"])
def monitor(pair: NetkitPair, request: pytest.FixtureRequest) -> Iterator[Monitor]:
    with Monitor(pair, thread=request.param) as made:
        yield made


@pytest.fixture
def send(pair: NetkitPair) -> Iterator[Sender]:
    with Sender(pair) as made:
        yield made


def run(main: Main) -> None:
    """Run it in asyncio, whose own complaints fail the test."""

    async def bounded() -> None:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
        await asyncio.wait_for(main(), LONG)
        assert complaints == []

    asyncio.run(bounded(), debug=True)


def run_in_trio(main: Main) -> None:
    async def bounded() -> None:
        with trio.fail_after(LONG):
            await main()

    trio.run(bounded)


RUNNERS = {"asyncio": run, "trio": run_in_trio}
runners = pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)


def numbers(batch: EventBatch) -> list[int | None]:
    return [event.src_port for event in batch]


async def next_event(reader: AsyncIterator[PacketEvent]) -> int | None:
    return (await reader.__anext__()).src_port


async def until(reached: Callable[[], bool]) -> None:
    """Let the other tasks run until something has come to be."""
    while not reached():
        await asyncio.sleep(0.001)


async def blocked(task: asyncio.Task[Any]) -> None:
    """Until a task has nothing to do but wait."""
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()


# Ways of reading.


@runners
def test_events_come_in_order(monitor: Monitor, send: Sender, runner: Callable[[Main], None]) -> None:
    async def main() -> None:
        send(1000)
        seen = []
        async for event in monitor:
            seen.append(event.src_port)
            if len(seen) == 1000:
                send(1)
            if len(seen) == 1001:
                break
        assert seen == list(range(1, 1002))

    runner(main)
    assert monitor.stats.primary == (1001, 1001, 0, 0)


@runners
def test_batches_come_in_order(monitor: Monitor, send: Sender, runner: Callable[[Main], None]) -> None:
    async def main() -> None:
        send(1000)
        seen: list[int | None] = []
        async for batch in monitor.batches():
            assert batch
            seen += numbers(batch)
            if len(seen) == 3000:
                break
            if len(seen) == send.sent:
                send(1000)
        assert seen == list(range(1, 3001))

    runner(main)


@runners
def test_silence_ends_the_batches(monitor: Monitor, send: Sender, runner: Callable[[Main], None]) -> None:
    async def main() -> None:
        batches = aiter(monitor.batches(timeout=0.05))
        assert [batch async for batch in batches] == []
        send()
        assert [batch async for batch in batches] == []  # what has ended stays ended
        assert [numbers(batch) async for batch in monitor.batches(timeout=0.05)] == [[1]]
        assert [batch async for batch in monitor.batches(timeout=0)] == []

    runner(main)


# Several tasks.


def test_a_task_that_waits_leaves_the_loop_to_others(monitor: Monitor, send: Sender) -> None:
    async def main() -> None:
        reader = asyncio.create_task(next_event(aiter(monitor)))
        await blocked(reader)
        turns = 0
        for _ in range(100):
            await asyncio.sleep(0)
            turns += 1
        assert not reader.done()
        send()
        assert (await reader, turns) == (1, 100)

    run(main)


def test_a_task_that_never_waits_gives_way(monitor: Monitor, send: Sender) -> None:
    async def main() -> None:
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        send(5000)
        await until(lambda: monitor.stats.primary.seen == 5000)
        other = asyncio.create_task(count_turns())
        async for event in monitor:
            if event.src_port == 5000:
                break
        assert turns >= 10
        other.cancel()

    run(main)


@pytest.mark.parametrize("what", ["events", "batches"])
def test_many_tasks_share_the_events(monitor: Monitor, send: Sender, what: str) -> None:
    async def main() -> None:
        seen: list[int | None] = []

        async def events() -> None:
            async for event in monitor:
                seen.append(event.src_port)

        async def batches() -> None:
            async for batch in monitor.batches():
                seen.extend(numbers(batch))

        tasks = [asyncio.create_task(events() if what == "events" else batches()) for _ in range(READERS)]
        for _ in range(100):
            send(20)
            await until(lambda: len(seen) == send.sent)
        assert seen == list(range(1, 2001))
        monitor.close()
        await asyncio.gather(*tasks)

    run(main)


# Readers that are cancelled, closed, or go on.


@pytest.mark.parametrize("what", ["events", "batches"])
def test_a_cancelled_reader_has_taken_nothing(monitor: Monitor, send: Sender, what: str) -> None:
    """Cancelled while it waits, after an event has woken it, and at any other turn of the loop."""

    async def main() -> None:
        seen: list[int | None] = []

        async def read() -> None:
            if what == "events":
                async for event in monitor:
                    seen.append(event.src_port)
            else:
                async for batch in monitor.batches():
                    seen.extend(numbers(batch))

        for turns in range(200):
            tasks = [asyncio.create_task(read()) for _ in range(3)]
            for turn in range(turns % 10):
                if turn == 3:
                    send(3)
                await asyncio.sleep(0)
            tasks[turns % 3].cancel()
            send(2)
            await asyncio.sleep(0.001 * (turns % 3))
            for task in tasks:
                task.cancel()
            for done in await asyncio.gather(*tasks, return_exceptions=True):
                assert isinstance(done, asyncio.CancelledError)
        async for batch in monitor.batches(timeout=0.2):
            seen.extend(numbers(batch))
        assert seen == list(range(1, send.sent + 1))

    run(main)


def test_a_reader_goes_on_after_a_wait_was_cancelled(monitor: Monitor, send: Sender) -> None:
    async def main() -> None:
        reader = aiter(monitor)
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(next_event(reader), 0.02)
        send(2)
        assert [await next_event(reader), await next_event(reader)] == [1, 2]

    run(main)


@pytest.mark.parametrize("where", ["in the loop", "in another thread"])
@runners
def test_close_wakes_every_reader(monitor: Monitor, where: str, runner: Callable[[Main], None]) -> None:
    readers = [monitor.batches() if i % 2 else monitor for i in range(READERS)]
    started = threading.Event()
    begun: list[Monitor | BatchReader] = []
    ended: list[Monitor | BatchReader] = []

    async def read(reader: Monitor | BatchReader) -> None:
        events = aiter(reader)
        begun.append(reader)
        if len(begun) == READERS:
            started.set()
        async for _ in events:
            pytest.fail("an event out of nothing")
        ended.append(reader)

    def close() -> None:
        assert started.wait(LONG)
        monitor.close()

    async def in_asyncio() -> None:
        tasks = [asyncio.create_task(read(reader)) for reader in readers]
        if where == "in the loop":
            await blocked(tasks[-1])
            monitor.close()
        await asyncio.gather(*tasks)

    async def in_trio() -> None:
        async with trio.open_nursery() as nursery:
            for reader in readers:
                nursery.start_soon(read, reader)
            if where == "in the loop":
                await trio.testing.wait_all_tasks_blocked()
                monitor.close()

    thread = threading.Thread(target=close)
    if where == "in another thread":
        thread.start()
    runner(in_asyncio if runner is run else in_trio)
    if where == "in another thread":
        thread.join()
    assert len(ended) == READERS


# Threads, and several loops.


def test_blocking_readers_and_tasks_share_the_events(monitor: Monitor, send: Sender) -> None:
    blocking: list[int | None] = []
    awaiting: list[int | None] = []

    def read() -> None:
        blocking.extend(event.src_port for event in monitor)

    async def main() -> None:
        async def read_here() -> None:
            async for event in monitor:
                awaiting.append(event.src_port)

        task = asyncio.create_task(read_here())
        for _ in range(200):
            send(5)
            await until(lambda: len(blocking) + len(awaiting) == send.sent)
        monitor.close()
        await task

    thread = threading.Thread(target=read)
    thread.start()
    run(main)
    thread.join()
    assert sorted(map(int, filter(None, blocking + awaiting))) == list(range(1, 1001))


def test_two_loops_read_one_monitor(monitor: Monitor, send: Sender) -> None:
    seen: list[list[int | None]] = [[], []]

    def loop(to: list[int | None]) -> None:
        async def main() -> None:
            async for event in monitor:
                to.append(event.src_port)

        asyncio.run(main())

    threads = [threading.Thread(target=loop, args=(to,)) for to in seen]
    for thread in threads:
        thread.start()
    send(500)
    while monitor.stats.primary.delivered < 500:
        pass
    monitor.close()
    for thread in threads:
        thread.join()
    assert sorted(map(int, filter(None, seen[0] + seen[1]))) == list(range(1, 501))


# Trouble, and what is left behind.


def test_a_device_that_goes_ends_the_tasks_with_an_error(pair: NetkitPair, monitor: Monitor, send: Sender) -> None:
    async def main() -> None:
        seen = []

        async def read() -> None:
            async for event in monitor:
                seen.append(event.src_port)

        task = asyncio.create_task(read())
        await blocked(task)
        send(10)
        pair.delete()
        with pytest.raises(OSError, match="ve0") as caught:
            await task
        assert caught.value.errno == errno.ENODEV
        assert seen == list(range(1, 11))

    run(main)


def test_a_wait_leaves_no_descriptor(monitor: Monitor) -> None:
    async def main() -> None:
        tasks = [asyncio.create_task(next_event(aiter(monitor))) for _ in range(READERS)]
        await blocked(tasks[-1])
        during = len(os.listdir("/proc/self/fd"))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(os.listdir("/proc/self/fd")) == during - READERS

    run(main)


def test_a_loop_that_ends_first_leaves_nothing(monitor: Monitor, send: Sender) -> None:
    async def main() -> None:
        asyncio.create_task(next_event(aiter(monitor)))  # noqa: RUF006 - nobody waits for it
        await asyncio.sleep(0.01)

    asyncio.run(main())
    send()
    event = monitor.read(LONG)
    assert event is not None
    assert event.src_port == 1


def test_outside_a_loop_an_await_says_what_is_missing(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anyio", None)
    with pytest.raises(ImportError, match="outside asyncio this needs anyio"):
        next(aiter(monitor).__anext__().__await__())


CELL = """
import sys
sys.path[:0] = {path}
from netkit_bpf import Monitor
from sender import Sender
from veth import quiet_pair
with quiet_pair() as pair, Monitor(pair) as monitor, Sender(pair) as send:
    send(3)
    async for event in monitor:
        print(event.src_port)
        if event.src_port == 3:
            break
    send(2)
    async for batch in monitor.batches(timeout=0.5):
        print(*[event.src_port for event in batch])
"""
# By ipc, as the loopback device of a fresh namespace is down.
EXECUTE = """
import sys
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from traitlets.config import Config

cell = new_code_cell(sys.argv[1])
config = Config({"KernelManager": {"transport": "ipc"}})
NotebookClient(new_notebook(cells=[cell]), config=config, timeout=60).execute()
print("".join(output["text"] for output in cell["outputs"]))
"""


def test_a_notebook_awaits_in_its_own_loop() -> None:
    need("ipython")
    cell = CELL.format(path=sys.path)
    done = subprocess.run([sys.executable, "-c", EXECUTE, cell], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.split() == ["1", "2", "3", "4", "5"]
