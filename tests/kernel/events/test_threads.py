"""Several threads at once, with the GIL and without: nothing is lost, nothing doubled, nothing hangs."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from elsewhere import need
from netkit_bpf import BPFObject, EventBatch, Monitor, NetkitPair, NetNS, PacketEvent, RingBuffer, Side
from netkit_bpf.bpf.program import Program
from netkit_bpf.internal.arguments import Thread
from packets import ipv6, udp
from programs import HEADER, build, load
from pytest_netkit_bpf.leaks import Resources
from veth import quiet_pair

UDP = 17
PORTS = range(1, 101)
REPEAT = 200
SENT = len(PORTS) * REPEAT
CYCLES = 20
SOURCE = (
    HEADER
    + """
struct number { __u64 value; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 1 << 20); __type(value, struct number); }
	numbers SEC(".maps");
struct wide { __u64 words[8]; };
const volatile __u32 constant = 1;
volatile struct wide wide;
volatile __u64 next;

SEC("netkit/peer") int write(struct __sk_buff *skb)
{
	struct number number = { next++ };

	wide.words[0] = constant;
	bpf_ringbuf_output(&numbers, &number, sizeof(number), 0);
	return 0;
}
"""
)
PACKET = bytes(60)

# How a stream is read behind the scenes.
MODES: dict[str, dict[str, Any]] = {
    "a thread reads": {},
    "who waits reads": {"thread": None},
    "a ring for each CPU": {"rings": "ordered"},
}


def at_once(*works: Callable[[], object]) -> None:
    """Do all of it at the same time; raise what one of them raises."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> None:
        try:
            start.wait()
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


@pytest.fixture
def pair() -> Iterator[NetkitPair]:
    need("tcx")
    with quiet_pair() as made:
        yield made


@pytest.fixture(params=MODES)
def monitor(pair: NetkitPair, request: pytest.FixtureRequest) -> Iterator[Monitor]:
    with Monitor(pair, **MODES[request.param]) as made:
        yield made


def observer(pair: NetkitPair) -> Program:
    """The monitor's own program: what it is run on are the monitor's events."""
    return Program._open_id(pair.programs(Side.PRIMARY).programs[0].id, "netkit/primary")


# Counts the source ports until the monitor is closed. The first argument is the one iterator of all threads.
Ports = Counter[Any]
Way = Callable[[Any, Monitor, Ports], None]


def iterate(_: object, monitor: Monitor, seen: Ports) -> None:
    seen.update(event.src_port for event in monitor)


def iterate_in_short_turns(_: object, monitor: Monitor, seen: Ports) -> None:
    while not monitor.closed:
        seen.update(event.src_port for event in monitor.events(timeout=0))


def iterate_together(shared: Iterator[PacketEvent], monitor: Monitor, seen: Ports) -> None:
    seen.update(event.src_port for event in shared)


def read(_: object, monitor: Monitor, seen: Ports) -> None:
    while (event := monitor.read()) is not None:
        seen[event.src_port] += 1


def read_batches(_: object, monitor: Monitor, seen: Ports) -> None:
    while batch := monitor.read_batch(max_events=1000):
        seen.update(event.src_port for event in batch)


def iterate_over_batches(_: object, monitor: Monitor, seen: Ports) -> None:
    for batch in monitor.batches():
        seen.update(event.src_port for event in batch)


WAYS: dict[str, tuple[Way, ...]] = {
    "iterators of their own": (iterate,) * 4,
    "one iterator": (iterate_together,) * 4,
    "iterators that end": (iterate_in_short_turns,) * 4,
    "read": (read,) * 4,
    "batches": (read_batches, read_batches, iterate_over_batches, iterate_over_batches),
    "something else each": (iterate, iterate_together, read, iterate_over_batches),
}


@pytest.mark.parametrize("way", WAYS)
def test_four_threads_get_each_event_once_by(way: str, monitor: Monitor, pair: NetkitPair) -> None:
    """While others look at the account and at the descriptor."""
    program, shared = observer(pair), iter(monitor)
    seen: list[Ports] = [Counter() for _ in WAYS[way]]

    def reader(read_all: Way, to: Ports) -> None:
        with contextlib.suppress(ValueError):  # closed, between two reads
            read_all(shared, monitor, to)

    def send() -> None:
        try:
            for port in PORTS:
                program.test_run(ipv6(UDP, udp(port)), repeat=REPEAT)
            while monitor.stats.total.pending:
                monitor.fileno()
        finally:
            monitor.close()

    def look() -> None:
        before = monitor.stats.total.delivered
        while not monitor.closed:
            now = monitor.stats.total
            assert before <= now.delivered <= SENT
            before = now.delivered

    at_once(send, look, *(lambda each=each, to=to: reader(each, to) for each, to in zip(WAYS[way], seen, strict=True)))
    assert monitor.stats.total == (SENT, SENT, 0, 0)
    assert sum(seen, Counter()) == Counter(dict.fromkeys(PORTS, REPEAT))


@pytest.mark.parametrize("mode", MODES)
def test_close_while_eight_threads_read_ends_them_all(mode: str, pair: NetkitPair) -> None:
    """Whatever has been handed out by then is counted as delivered, and nothing else is."""
    for cycle in range(CYCLES):
        with Monitor(pair, **MODES[mode]) as monitor:
            program, shared, begun = observer(pair), iter(monitor), threading.Event()
            seen: list[Ports] = [Counter() for _ in range(8)]

            def reader(
                read_all: Way,
                to: Ports,
                monitor: Monitor = monitor,
                shared: Iterator[PacketEvent] = shared,
            ) -> None:
                with contextlib.suppress(ValueError):
                    read_all(shared, monitor, to)

            def send(program: Program = program, begun: threading.Event = begun, early: int = cycle * 4 + 1) -> None:
                for port in PORTS:
                    program.test_run(ipv6(UDP, udp(port)), repeat=10)
                    if port == early:
                        begun.set()

            def close(monitor: Monitor = monitor, begun: threading.Event = begun) -> None:
                begun.wait()
                monitor.close()

            ways = [read, iterate, iterate_together, iterate_over_batches] * 2
            readers = [lambda each=each, to=to: reader(each, to) for each, to in zip(ways, seen, strict=True)]
            at_once(*readers, close, close, send)
            assert monitor.stats.total.delivered == sum(each.total() for each in seen)


def test_four_threads_share_the_iterator_of_a_batch(pair: NetkitPair) -> None:
    with Monitor(pair) as monitor:
        for port in PORTS:
            observer(pair).test_run(ipv6(UDP, udp(port)), repeat=REPEAT)
        parts: list[EventBatch] = []
        while sum(map(len, parts)) < SENT:
            parts.append(monitor.read_batch(timeout=10.0))
        batch = EventBatch.concat(parts)
    shared = iter(batch)
    seen: list[Ports] = [Counter() for _ in range(4)]
    at_once(*(lambda to=to: to.update(event.src_port for event in shared) for to in seen))
    assert sum(seen, Counter()) == Counter(dict.fromkeys(PORTS, REPEAT))


@pytest.mark.parametrize("thread", ["shared", None], ids=["a thread reads", "who waits reads"])
def test_four_threads_get_each_typed_record_once(thread: Thread | None) -> None:
    """Decoding them is Python's work, during which other threads read."""
    with load(SOURCE) as obj, RingBuffer(obj.maps["numbers"], thread=thread) as ring:
        seen: list[list[int]] = [[], [], [], []]
        ready = threading.Barrier(4)

        def reader(to: list[int]) -> None:
            ready.wait()
            to += [record.value for record in ring.events(timeout=2.0)]

        obj.programs["write"].test_run(PACKET, repeat=SENT)
        at_once(*(lambda to=to: reader(to) for to in seen))
        assert sorted(number for each in seen for number in each) == list(range(SENT))


def test_of_eight_threads_that_want_to_read_a_ring_buffer_one_may() -> None:
    with load(SOURCE) as obj:
        for _ in range(CYCLES):
            made: list[RingBuffer] = []

            def make(made: list[RingBuffer] = made) -> None:
                with contextlib.suppress(ValueError):
                    made.append(RingBuffer(obj.maps["numbers"]))

            at_once(*[make] * 8)
            assert len(made) == 1
            made[0].close()


def test_four_threads_make_objects_at_once() -> None:
    def work() -> None:
        for _ in range(CYCLES):
            with BPFObject.open(build(SOURCE)) as obj:
                obj.programs["write"].test_run(PACKET, repeat=3)
                assert obj.variables["next"].value == 3

    at_once(*[work] * 4)


def test_variables_are_read_and_written_while_their_object_is_loaded() -> None:
    for _ in range(CYCLES):
        obj = BPFObject.open(build(SOURCE))
        variables = obj.variables

        def write(variables: Any = variables) -> None:
            for number in range(200):
                with contextlib.suppress(OSError, ValueError):  # it is loaded by now
                    variables["constant"].value = number
                variables["next"].value = number
                variables["wide"].value = (tuple(range(8)),)

        def read(variables: Any = variables) -> None:
            for _ in range(200):
                assert variables["constant"].value < 200
                assert variables["next"].value < 200
                assert variables["wide"].value in (((0,) * 8,), (tuple(range(8)),))

        at_once(obj.load, write, read, read)
        obj.programs["write"].test_run(PACKET)
        assert variables["wide"].value.words[0] == variables["constant"].value
        assert variables["next"].value == 200
        obj.close()


def test_eight_threads_let_go_of_one_thing(pair: NetkitPair) -> None:
    """Whatever it is; what one of them finds gone it leaves alone, so that nobody's descriptor is closed twice."""
    before = Resources.now()
    for _ in range(CYCLES):
        obj = load(SOURCE)
        link = pair.attach(obj.programs["write"], Side.PEER) if pair.primary.kind == "netkit" else None
        link = link or pair.primary.attach(obj.programs["write"], "ingress")
        netns = NetNS.create()
        at_once(*[link.close, netns.delete, obj.close, netns.delete, link.close, obj.close, netns.delete, link.close])
        assert link.closed
        assert obj.closed
    assert before.wait_until_back() == []
