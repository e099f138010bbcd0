"""Links on the tcx hooks of a veth pair: order, anchors, revisions, and what every refusal says."""

from __future__ import annotations

import errno

import pytest

from elsewhere import needs_tcx
from examples import example
from netkit_bpf import (
    BPFObject,
    Device,
    Direction,
    HookPrograms,
    Link,
    NetkitPair,
    Program,
    Side,
    _core,
)
from programs import JUDGES, MANY, OBSERVER, ONE, VERDICTS, WITNESSES, build, load
from syscall import attach_without_link

pytestmark = needs_tcx

DROP_PORT = example("drop_port")
MOST = 63  # programs on a hook: BPF_MPROG_MAX, less one that ends the list


def names(programs: HookPrograms) -> list[str | None]:
    return [each.name for each in programs.programs]


@pytest.mark.parametrize(
    "source",
    [VERDICTS, MANY, WITNESSES, JUDGES, OBSERVER, DROP_PORT.SOURCE],
    ids=["verdicts", "many", "witnesses", "judges", "observer", "drop_port"],
)
def test_the_kernel_takes_the_programs_of_these_tests(source: str) -> None:
    """Those for real netkit devices too: they are compiled here, where it is quick."""
    with load(source) as obj:
        assert all(program.id for program in obj.programs.values())


def test_programs_run_in_the_order_in_which_they_are_attached(device: Device, first: Program, second: Program) -> None:
    assert device.programs("ingress") == HookPrograms(None, ())
    with device.attach(first, "ingress") as a, device.attach(second, Direction.INGRESS) as b:
        revision, programs = device.programs("ingress")
        assert revision == 3  # it begins with 1
        assert programs == ((first.id, "first", a.id), (second.id, "second", b.id))
        assert device.programs("egress").programs == ()
        assert (a.side, b.side) == (Direction.INGRESS, Direction.INGRESS)
        assert (a.program, b.program) == (first, second)
    assert device.programs("ingress") == HookPrograms(None, ())


def test_the_sides_of_a_pair_are_hooks_of_their_own(pair: NetkitPair, first: Program) -> None:
    with pair.attach(first, "primary") as primary, pair.attach(first, "peer") as peer:
        assert (primary.side, peer.side) == (Side.PRIMARY, Side.PEER)
        assert pair.programs("primary").programs == ((first.id, "first", primary.id),)
        assert pair.programs(Side.PEER).programs == ((first.id, "first", peer.id),)


@pytest.mark.parametrize("anchor", ["link", "program", "entry"])
def test_before_and_after_place_a_program(device: Device, anchor: str, obj: BPFObject) -> None:
    program = obj.programs
    with device.attach(program["first"], "ingress") as a, device.attach(program["second"], "ingress"):

        def at(link: Link, index: int) -> Link | Program | tuple[int, str | None, int | None]:
            if anchor == "link":
                return link
            return link.program if anchor == "program" else device.programs("ingress").programs[index]

        with device.attach(program["third"], "ingress", before=at(a, 0)):  # type: ignore[arg-type]
            assert names(device.programs("ingress")) == ["third", "first", "second"]
            with device.attach(program["pass"], "ingress", after=at(a, 1)):  # type: ignore[arg-type]
                assert names(device.programs("ingress")) == ["third", "first", "pass", "second"]
        with device.attach(program["third"], "ingress", before="all"):
            assert names(device.programs("ingress")) == ["third", "first", "second"]
        with device.attach(program["third"], "ingress", after="all"):
            assert names(device.programs("ingress")) == ["first", "second", "third"]


def test_an_anchor_without_a_link_is_found(device: Device, first: Program, second: Program) -> None:
    device.netns.call(attach_without_link, first._fileno(), device.ifindex)
    entry = device.programs("ingress").programs[0]
    assert tuple(entry) == (first.id, "first", None)
    with device.attach(second, "ingress", before=entry):
        assert names(device.programs("ingress")) == ["second", "first"]
    device.detach(entry, "ingress")
    assert device.programs("ingress").programs == ()


def test_what_a_link_holds_is_not_detached_behind_its_back(device: Device, first: Program, second: Program) -> None:
    with device.attach(first, "ingress") as link:
        for which in (first, device.programs("ingress").programs[0]):
            with pytest.raises(
                OSError, match=rf"detach program 'first' from ve0 \(ingress\): .*link {link.id} holds"
            ) as e:
                device.detach(which, "ingress")
            assert e.value.errno == errno.EBUSY
        with pytest.raises(FileNotFoundError, match=r"program 'second' from ve0 \(ingress\): .*it is not on this hook"):
            device.detach(second, "ingress")
        assert names(device.programs("ingress")) == ["first"]


def test_an_anchor_that_is_not_on_the_hook_is_named(
    device: Device, first: Program, second: Program, third: Program
) -> None:
    with device.attach(first, "ingress"), device.attach(second, "egress") as elsewhere:
        with pytest.raises(
            FileNotFoundError, match=rf"'third' to ve0 \(ingress\): .*link {elsewhere.id} is not on this"
        ):
            device.attach(third, "ingress", before=elsewhere)
        with pytest.raises(FileNotFoundError, match=rf"program 'second' \(id {second.id}\) is not on this hook"):
            device.attach(third, "ingress", after=second)
        assert names(device.programs("ingress")) == ["first"]


def test_one_program_is_on_a_hook_once(device: Device, first: Program) -> None:
    with device.attach(first, "ingress"):
        with pytest.raises(FileExistsError, match=rf"program 'first' \(id {first.id}\) is on this hook already"):
            device.attach(first, "ingress")


def test_an_expected_revision_is_checked_and_the_error_says_what_was_found(
    device: Device, first: Program, second: Program
) -> None:
    with device.attach(first, "ingress", expected_revision=1):
        revision = device.programs("ingress").revision
        assert revision == 2
        with pytest.raises(OSError, match=r"ESTALE: expected revision 1, found 2") as caught:
            device.attach(second, "ingress", expected_revision=1)
        assert caught.value.errno == errno.ESTALE
        with device.attach(second, "ingress", expected_revision=revision):
            assert device.programs("ingress").revision == 3
        assert device.programs("ingress").revision == 4  # a detached program is a change too


def test_an_update_is_a_new_revision(device: Device, first: Program, second: Program) -> None:
    with device.attach(first, "ingress") as link:
        before = device.programs("ingress").revision
        link.update(second)
        assert device.programs("ingress").revision != before


def test_a_stale_revision_on_an_empty_hook_is_told_as_such(device: Device, first: Program) -> None:
    with pytest.raises(
        OSError, match=r"ESTALE: expected revision 7, found an empty hook, whose revision the kernel does"
    ):
        device.attach(first, "ingress", expected_revision=7)


def test_a_hook_takes_63_programs_in_any_place(device: Device, first: Program) -> None:
    objects = [load(ONE) for _ in range(MOST)]
    links = [device.attach(each.programs["one"], "ingress") for each in objects]
    assert [each.link_id for each in device.programs("ingress").programs] == [link.id for link in links]
    for place in ({}, {"before": "all"}, {"before": links[-1]}, {"after": links[0]}):
        with pytest.raises(OSError, match="there are 63 programs on this hook, more do not fit") as caught:
            device.attach(first, "ingress", **place)
        assert caught.value.errno == errno.ERANGE
    assert len(device.programs("ingress").programs) == MOST
    for link in links:
        link.close()
    for each in objects:
        each.close()


def test_a_program_of_another_type_is_refused_with_those_that_fit(device: Device, obj: BPFObject) -> None:
    with pytest.raises(
        OSError, match=r"'of_another_type' to ve0 \(ingress\): .*hooks take programs of the sections netkit"
    ):
        device.attach(obj.programs["of_another_type"], "ingress")
    with device.attach(obj.programs["first"], "ingress") as link:
        with pytest.raises(
            OSError, match=r"'of_another_type' on link \d+ on ve0 .*hooks take programs of the sections"
        ):
            link.update(obj.programs["of_another_type"])


def test_a_device_that_is_gone_is_named_with_the_namespace_looked_in(pair: NetkitPair, first: Program) -> None:
    device = pair.primary
    netns, ifindex = device.netns, device.ifindex
    pair.delete()
    with pytest.raises(OSError, match="No such device") as caught:
        device.attach(first, "ingress")
    assert caught.value.errno == errno.ENODEV
    for ask in (
        lambda: _core.hook_query((netns._open(), "ve0", ifindex, "veth", 2)),
        lambda: _core.Link(first._open(), (netns._open(), "ve0", ifindex, "veth", 2), (0, 0, False, 0), 0),
    ):
        with pytest.raises(
            OSError, match=rf"ve0 \(ingress\): .*no device with ifindex {ifindex} in .* net:\[\d+\]"
        ) as e:
            ask()
        assert e.value.errno == errno.ENODEV


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"side": "left"}, ValueError, "side must be 'primary' or 'peer', not 'left'"),
        ({"program": "first"}, TypeError, "program must be a Program, not str"),
        ({"before": 3}, TypeError, "before must be a Link, a Program, an AttachedProgram or 'all', not int"),
        ({"after": "first"}, ValueError, "after must be a Link, a Program, an AttachedProgram or 'all', not 'first'"),
        ({"before": "all", "after": "all"}, ValueError, "before and after: give one of them"),
        ({"expected_revision": 0}, ValueError, "expected_revision must be 1 to"),
        ({"expected_revision": 1.0}, TypeError, "expected_revision must be an int, not float"),
    ],
)
def test_bad_arguments_are_refused_before_the_kernel_is_asked(
    pair: NetkitPair, first: Program, arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    given = {"program": first, "side": "peer", **arguments}
    with pytest.raises(error, match=message):
        pair.attach(**given)  # type: ignore[arg-type]
    assert pair.programs("peer").programs == ()


def test_a_program_that_is_not_loaded_is_refused(device: Device) -> None:
    obj = BPFObject.open(build(VERDICTS))
    with pytest.raises(ValueError, match="program 'first' is not loaded"):
        device.attach(obj.programs["first"], "ingress")
