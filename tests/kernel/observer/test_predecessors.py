"""Programs that come in front of a monitor, and hide packets from it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest

from elsewhere import needs_tcx
from netkit_bpf import BPFObject, Firewall, Monitor, Observer, Side
from programs import OBSERVER, load
from sender import Sender
from traffic import Wire, collect, ping
from veth import quiet_pair

pytestmark = needs_tcx


@pytest.fixture
def others() -> Iterator[BPFObject]:
    with load() as obj:
        yield obj


LOOKED = 1.3  # seconds of silence, in which a reader looks once


@pytest.mark.parametrize(("side", "name"), [("primary", "pass"), ("peer", "drop")])
def test_a_program_that_hides_packets_is_told_once_and_named(
    wire: Wire, others: BPFObject, side: str, name: str
) -> None:
    program = others.programs[name]
    with Monitor(wire.pair) as monitor:
        assert repr(monitor) == "<Monitor ve0 (primary, peer) open>"
        with wire.pair.attach(program, side, before="all") as link:
            (observer,) = monitor.observers
            assert observer.predecessors == {Side(side): ((program.id, name, link.id),)}
            assert repr(monitor) == f"<Monitor ve0 (primary, peer) open behind {name} on ve0 ({side})>"
            text = rf"program '{name}' \(id {program.id}\) came in front on ve0 .*, and [1-9].* packets went by unseen"
            with pytest.warns(RuntimeWarning, match=text):
                read_and_send(monitor, wire)
            ((hiding,),) = (pair.hidden_by for pair in monitor.stats.pairs)
            assert (hiding.side, hiding.program) == (side, (program.id, name, link.id))
            assert hiding.packets >= 1
            assert f" | {hiding.packets} hidden by {name} ({side})" in str(monitor.stats.pairs[0])
            ping(wire.left, wire.right, [56], timeout=0.2)
            assert_quiet(monitor)
        assert observer.predecessors == {}
        assert_quiet(monitor)
        assert monitor.stats.pairs[0].hidden_by == ()  # it was looked at again
    assert observer.predecessors == {}
    assert repr(monitor) == "<Monitor ve0 (primary, peer) closed>"


def test_it_is_told_of_one_pair_while_another_is_busy(wire: Wire, others: BPFObject) -> None:
    with quiet_pair() as busy, Monitor(wire.pair, busy) as monitor, Sender(busy) as sender:

        def send_and_read() -> None:
            for _ in range(int(5 * LOOKED / 0.1)):  # each pair is looked at every other second
                sender(1)
                ping(wire.left, wire.right, [56], timeout=0.02)
                list(monitor.events(duration=0.1))

        with wire.pair.attach(others.programs["drop"], "peer", before="all"):
            with pytest.warns(RuntimeWarning, match="'drop' .* came in front on ve0"):
                send_and_read()
            assert [bool(pair.hidden_by) for pair in monitor.stats.pairs] == [True, False]


def read_and_send(monitor: Monitor, wire: Wire) -> None:
    """Long enough for the reader to look before and after something was sent."""
    for _ in range(3):
        list(monitor.events(timeout=LOOKED))
        ping(wire.left, wire.right, [56], timeout=0.2)
    list(monitor.events(timeout=LOOKED))


def assert_quiet(monitor: Monitor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        collect(monitor, silence=LOOKED)


@pytest.mark.parametrize("expression", ["", "udp"])  # what is filtered was not hidden
def test_a_program_that_leaves_packets_to_the_next_is_not_told(wire: Wire, others: BPFObject, expression: str) -> None:
    with (
        Monitor(wire.pair, filter=expression or None) as monitor,
        wire.pair.attach(others.programs["first"], "peer", before="all"),
    ):
        assert_quiet(monitor)  # nor one behind which there is nothing to see
        for _ in range(3):
            assert_quiet(monitor)
            assert ping(wire.left, wire.right, [56]) == 1
        assert_quiet(monitor)


def test_reading_goes_on_after_a_warning_that_is_an_error(wire: Wire, others: BPFObject) -> None:
    with Monitor(wire.pair) as monitor:
        with wire.pair.attach(others.programs["drop"], "peer", before="all"):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                with pytest.raises(RuntimeWarning, match=r"'drop' .* came in front"):
                    read_and_send(monitor, wire)
        assert ping(wire.left, wire.right, [56]) == 1
        assert collect(monitor)


def test_firewalls_observers_and_what_follows_hide_nothing(wire: Wire, others: BPFObject) -> None:
    with (
        Monitor(wire.pair) as monitor,
        Firewall(wire.pair, ["pass primary"]),
        Monitor(wire.pair, before="all", filter="udp"),
        wire.pair.attach(others.programs["drop"], "peer"),
    ):
        for _ in range(3):
            assert_quiet(monitor)
            ping(wire.left, wire.right, [56], timeout=0.2)
        assert_quiet(monitor)
        assert monitor.observers[0].predecessors == {}


def test_whoever_chose_the_place_is_not_warned(wire: Wire, others: BPFObject) -> None:
    drop = others.programs["drop"]
    with load(OBSERVER) as obj, wire.pair.attach(drop, "peer"):
        programs = {"peer": obj.programs["of_peer"]}
        with Observer(wire.pair, programs, verdict=obj.variables["verdict"], after=drop) as observer:
            assert observer.predecessors == {}
