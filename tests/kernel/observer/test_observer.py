"""An observer of the user's own, on the tcx hooks of a veth pair."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator

import pytest

from elsewhere import needs_tcx
from held_calls import OBJ_GET_INFO_BY_FD, run_with_held_calls
from netkit_bpf import BPFObject, Map, NetkitPair, Observer, RingBuffer
from programs import OBSERVER, build, load
from traffic import Wire, ping, send_datagrams

pytestmark = needs_tcx

MOMENT = 0.3  # seconds, for what must not happen


@pytest.fixture
def obj() -> Iterator[BPFObject]:
    with load(OBSERVER) as loaded:
        yield loaded


def observe(pair: NetkitPair, obj: BPFObject) -> Observer:
    programs = {"primary": obj.programs["of_primary"], "peer": obj.programs["of_peer"]}
    return Observer(pair, programs, verdict=obj.variables["verdict"])


def names(pair: NetkitPair, side: str) -> list[str | None]:
    return [each.name for each in pair.programs(side).programs]


def test_an_observer_comes_before_the_others_and_sees_what_they_drop(wire: Wire, obj: BPFObject) -> None:
    with load() as others, wire.pair.attach(others.programs["drop"], "peer"):
        with observe(wire.pair, obj) as observer:
            assert names(wire.pair, "peer") == ["of_peer", "drop"]
            assert names(wire.pair, "primary") == ["of_primary"]
            assert ping(wire.left, wire.right, [56], timeout=0.2) == 0
            assert min(obj.variables["counts"].value) > 0
            observer.check()
            assert obj.variables["verdict"].value == (-1, -1)
            assert repr(observer) == "<Observer observer of ve0 (primary, peer) open>"
        assert names(wire.pair, "peer") == ["drop"]
        assert names(wire.pair, "primary") == []
        assert repr(observer) == "<Observer observer of ve0 (primary, peer) closed>"
        observer.close()
        with pytest.raises(ValueError, match="the observer of ve0 is closed"):
            observer.check()


def test_one_side_is_enough(wire: Wire, obj: BPFObject) -> None:
    with Observer(wire.pair, {"peer": obj.programs["of_peer"]}, verdict=obj.variables["verdict"]):
        assert names(wire.pair, "primary") == []
        assert ping(wire.left, wire.right, [56]) == 1
    assert obj.variables["counts"].value[0] == 0


def test_check_sets_the_verdicts_and_leaves_the_section_alone_otherwise(wire: Wire, obj: BPFObject) -> None:
    with observe(wire.pair, obj) as observer:
        obj.variables["verdict"].value = (2, 2)
        obj.variables["one_verdict"].value = 12345
        observer.check()
        assert obj.variables["verdict"].value == (-1, -1)
        assert obj.variables["one_verdict"].value == 12345


def test_check_says_when_the_pair_is_gone(wire: Wire, obj: BPFObject) -> None:
    with observe(wire.pair, obj) as observer:
        wire.pair.delete()
        with pytest.raises(OSError, match=r"observer ve0: No such device .*was deleted") as caught:
            observer.check()
        assert caught.value.errno == errno.ENODEV


def test_one_that_is_about_to_be_closed_is_not_gone(wire: Wire, obj: BPFObject) -> None:
    """Many are detached first and closed then; a look in between is no end of a pair."""
    with observe(wire.pair, obj) as observer:
        observer._detach()
        assert names(wire.pair, "primary") == names(wire.pair, "peer") == []
        observer.check()
        observer._detach()
    observer._detach()


def test_the_object_may_be_closed_before(wire: Wire) -> None:
    obj = load(OBSERVER)
    with observe(wire.pair, obj) as observer:
        obj.close()
        observer.check()
        assert ping(wire.left, wire.right, [56]) == 1


def test_what_cannot_be_attached_leaves_nothing(wire: Wire, obj: BPFObject) -> None:
    with wire.pair.attach(obj.programs["of_peer"], "peer"):
        with pytest.raises(FileExistsError, match=r"attach program 'of_peer' to ve0 \(ingress\)"):
            observe(wire.pair, obj)
        assert names(wire.pair, "primary") == []
        assert names(wire.pair, "peer") == ["of_peer"]


def test_an_observer_that_is_let_go_is_closed(wire: Wire, obj: BPFObject) -> None:
    kept = [observe(wire.pair, obj)]
    assert names(wire.pair, "peer") == ["of_peer"]
    with pytest.warns(ResourceWarning, match="Observer of ve0, made at .*, was never closed"):
        kept.clear()
    assert names(wire.pair, "peer") == []


def test_a_forked_child_closes_nothing_of_its_parents(wire: Wire, obj: BPFObject) -> None:
    with observe(wire.pair, obj) as observer:
        child = os.fork()
        if child == 0:
            observer.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert names(wire.pair, "peer") == ["of_peer"]
        observer.check()


def test_no_check_goes_on_once_the_reading_is_closed(wire: Wire, obj: BPFObject) -> None:
    """What it looks at may be closed next."""
    closing: list[threading.Thread] = []

    with observe(wire.pair, obj) as observer, Map.create("ringbuf", max_entries=4096) as ring:
        reader = RingBuffer(ring, observers=[observer], thread=None)

        def close() -> None:
            if not closing:
                closing.append(threading.Thread(target=reader.close))
                closing[0].start()
                closing[0].join(MOMENT)
                assert closing[0].is_alive(), "close() did not wait for the check"

        try:
            wire.pair.primary.set_mtu(1400)  # a change of the device lets it look
            assert run_with_held_calls(reader.read, OBJ_GET_INFO_BY_FD, close) is None
        finally:
            reader.close()
        closing[0].join()


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("one_verdict", r"variable 'one_verdict' has 4 bytes: a number for each side is __s32\[2\]"),
        (
            "constant",
            r"what is told to each side's program must be a variable of two __s32 in the section .data or .bss",
        ),
    ],
)
def test_a_variable_that_is_no_pair_of_verdicts_is_refused(
    wire: Wire, obj: BPFObject, variable: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Observer(wire.pair, {"peer": obj.programs["of_peer"]}, verdict=obj.variables[variable])
    assert names(wire.pair, "peer") == []


def test_bad_arguments_are_refused_first(wire: Wire, obj: BPFObject) -> None:
    verdict = obj.variables["verdict"]
    with pytest.raises(ValueError, match="programs must have a program for one side or both"):
        Observer(wire.pair, {}, verdict=verdict)
    with pytest.raises(ValueError, match="programs must be 'primary' or 'peer', not 'ingress'"):
        Observer(wire.pair, {"ingress": obj.programs["of_peer"]}, verdict=verdict)
    with pytest.raises(TypeError, match="programs must be a Program, not str"):
        Observer(wire.pair, {"peer": "of_peer"}, verdict=verdict)  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="verdict must be a Variable, not int"):
        Observer(wire.pair, {"peer": obj.programs["of_peer"]}, verdict=-1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"pair must be a NetkitPair, not str: NetkitPair.open\(\) takes a name"):
        Observer("ve0", {"peer": obj.programs["of_peer"]}, verdict=verdict)  # type: ignore[arg-type]
    not_loaded = BPFObject.open(build(OBSERVER))
    with pytest.raises(ValueError, match="is not loaded"):
        Observer(wire.pair, {"peer": obj.programs["of_peer"]}, verdict=not_loaded.variables["verdict"])
    with pytest.raises(ValueError, match="is not loaded"):
        observe(wire.pair, not_loaded)


def test_with_a_filter_the_programs_see_only_what_matches(wire: Wire, obj: BPFObject) -> None:
    programs = {"primary": obj.programs["of_primary"], "peer": obj.programs["of_peer"]}
    with Observer(wire.pair, programs, verdict=obj.variables["verdict"], filter="udp") as observer:
        assert ping(wire.left, wire.right, [56]) == 1
        assert sum(obj.variables["counts"].value) == 0
        assert min(observer.filtered) > 0
        send_datagrams(wire.left, wire.right, [10])
        assert obj.variables["counts"].value == (1, 0)
    assert min(observer.filtered) > 0  # still known
    with pytest.raises(ValueError, match="syntax error"):
        Observer(wire.pair, programs, verdict=obj.variables["verdict"], filter="udp and and")
    assert names(wire.pair, "peer") == []
