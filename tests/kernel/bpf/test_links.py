"""Links on the tcx hooks of a veth pair: order, revisions, swaps, pins, and what every refusal says."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import swapping
from examples import example
from netkit_bpf import (
    BPFObject,
    Device,
    Direction,
    HookPrograms,
    Link,
    NetkitPair,
    NetNS,
    Program,
    Side,
    _core,
)
from programs import JUDGES, MANY, OBSERVER, ONE, VERDICTS, WITNESSES, build, load
from syscall import attach_without_link
from traffic import Wire, ping
from veth import has_tcx, veth_pair, veth_wire

pytestmark = pytest.mark.skipif(not has_tcx(), reason="this kernel has no tcx hooks (6.6)")

DROP_PORT = example("drop_port")
MOST = 63  # programs on a hook: BPF_MPROG_MAX, less one that ends the list
SHORT = 0.2  # seconds to wait for a reply that must not come


@pytest.fixture
def pair() -> Iterator[NetkitPair]:
    with NetNS.create() as here, NetNS.create() as there, veth_pair(here, there) as made:
        yield made


@pytest.fixture
def device(pair: NetkitPair) -> Device:
    return pair.primary


@pytest.fixture
def wire() -> Iterator[Wire]:
    with veth_wire(4) as made:
        yield made


@pytest.fixture
def obj() -> Iterator[BPFObject]:
    with load() as loaded:
        yield loaded


@pytest.fixture
def first(obj: BPFObject) -> Program:
    return obj.programs["first"]


@pytest.fixture
def second(obj: BPFObject) -> Program:
    return obj.programs["second"]


@pytest.fixture
def third(obj: BPFObject) -> Program:
    return obj.programs["third"]


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[Path]:
    """A BPF file system of the test's own."""
    subprocess.run(["mount", "-t", "bpf", "bpf", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


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
        lambda: _core.Link(first._open(), (netns._open(), "ve0", ifindex, "veth", 2), 0, None, 0),
    ):
        with pytest.raises(
            OSError, match=rf"ve0 \(ingress\): .*no device with ifindex {ifindex} in .* net:\[\d+\]"
        ) as e:
            ask()
        assert e.value.errno == errno.ENODEV


def test_a_swap_keeps_place_and_link(device: Device, obj: BPFObject) -> None:
    program = obj.programs
    links = [device.attach(program[name], "ingress") for name in ("first", "second", "third")]
    links[1].update(program["drop"])
    assert device.programs("ingress").programs[1] == (program["drop"].id, "drop", links[1].id)
    assert links[1].program is program["drop"]
    links[1].update(program["drop"])  # once more changes nothing
    assert names(device.programs("ingress")) == ["first", "drop", "third"]
    for link in links:
        link.close()


def test_a_swap_is_refused_for_a_program_that_is_on_the_hook(device: Device, first: Program, second: Program) -> None:
    with device.attach(first, "ingress") as link, device.attach(second, "ingress"):
        message = (
            rf"put program 'second' on link {link.id} on ve0 \(ingress\): .*\(id {second.id}\) is on this hook already"
        )
        with pytest.raises(FileExistsError, match=message):
            link.update(second)
        assert link.program is first


def test_a_swap_can_expect_what_it_replaces(device: Device, first: Program, second: Program, third: Program) -> None:
    with device.attach(first, "ingress") as link:
        link.update(second, expected=first)
        message = rf"ESTALE: expected program 'first' \(id {first.id}\), found program 'second' \(id {second.id}\)"
        with pytest.raises(OSError, match=message) as caught:
            link.update(third, expected=first)
        assert caught.value.errno == errno.ESTALE
        assert link.program is second


def test_a_detached_link_holds_nothing_and_takes_nothing(device: Device, first: Program, second: Program) -> None:
    with device.attach(first, "ingress") as link:
        assert link.is_attached
        assert repr(link) == f"<Link {link.id} on ve0 (ingress) attached>"
        link.detach()
        link.detach()
        assert not link.is_attached
        assert repr(link) == f"<Link {link.id} on ve0 (ingress) detached>"
        assert device.programs("ingress").programs == ()
        with pytest.raises(OSError, match="the device is gone, or the link was detached") as caught:
            link.update(second)
        assert caught.value.errno == errno.ENOLINK


def test_a_link_outlives_its_device(pair: NetkitPair, first: Program, second: Program) -> None:
    with pair.attach(first, "peer") as link:
        pair.delete()
        assert not link.is_attached
        assert link.program is first
        with pytest.raises(OSError, match="the device is gone") as caught:
            link.update(second)
        assert caught.value.errno == errno.ENOLINK
        link.detach()


def test_a_link_survives_renames_and_moves(wire: Wire, obj: BPFObject) -> None:
    pair = wire.pair
    with pair.attach(obj.programs["drop"], "primary") as link, NetNS.create() as other:
        assert ping(wire.left, wire.right, [56], timeout=SHORT) == 0
        pair.primary.down()
        pair.primary.netns.run(["ip", "link", "set", "ve0", "name", "renamed"], check=True)
        pair.primary.up()
        assert ping(wire.left, wire.right, [56], timeout=SHORT) == 0
        assert pair.programs("primary").programs == ((obj.programs["drop"].id, "drop", link.id),)
        with other.popen(["sleep", "60"]) as holder:  # ip names a namespace by a process in it
            pair.primary.netns.run(["ip", "link", "set", "renamed", "netns", str(holder.pid)], check=True)
            holder.kill()
        assert link.is_attached
        link.update(obj.programs["pass"])
        assert link.program is obj.programs["pass"]


def test_closing_a_link_detaches_and_what_is_closed_says_so(device: Device, first: Program, second: Program) -> None:
    link = device.attach(first, "ingress")
    number = link.id
    assert not link.closed
    link.close()
    link.close()
    assert link.closed
    assert device.programs("ingress").programs == ()
    assert repr(link) == f"<Link {number} on ve0 (ingress) closed>"
    uses: list[Callable[[], object]] = [
        lambda: link.id,
        lambda: link.program,
        lambda: link.is_attached,
        lambda: link.pinned_at,
        lambda: link.update(second),
        link.detach,
        lambda: link.pin("/sys/fs/bpf/x"),
        link.unpin,
        link.__enter__,
        lambda: device.attach(second, "ingress", before=link),
    ]
    for use in uses:
        with pytest.raises(ValueError, match=rf"link {number} is closed"):
            use()


def test_a_program_of_a_closed_object_stays_attached_and_can_be_had_from_its_link(device: Device) -> None:
    obj = load()
    link = device.attach(obj.programs["first"], "ingress")
    number = obj.programs["first"].id
    obj.close()
    with pytest.raises(ValueError, match="closed"):
        device.attach(obj.programs["second"], "ingress")
    assert device.programs("ingress").programs == ((number, "first", link.id),)
    assert (link.program.id, link.program.name, link.program.section) == (number, "first", "tcx/ingress")
    link.close()


def test_a_pinned_link_keeps_its_program_attached(device: Device, first: Program, second: Program, bpffs: Path) -> None:
    with device.attach(first, "ingress") as link:
        assert link.pinned_at is None
        link.pin(bpffs / "link")
        assert link.pinned_at == str(bpffs / "link")
        with pytest.raises(ValueError, match="is pinned already, at"):
            link.pin(bpffs / "other")
    assert names(device.programs("ingress")) == ["first"]
    with Link.open_pinned(bpffs / "link") as again:
        assert again.id == link._id
        assert again.side is Direction.INGRESS
        assert again.program.id == first.id
        again.update(second)
        assert names(device.programs("ingress")) == ["second"]
        again.unpin()
        assert not (bpffs / "link").exists()
        with pytest.raises(ValueError, match="is not pinned"):
            again.unpin()
        assert names(device.programs("ingress")) == ["second"]
    assert device.programs("ingress").programs == ()


def test_pins_are_refused_with_the_path_and_what_to_do(device: Device, first: Program, bpffs: Path) -> None:
    plain = Path("/dev/shm/netkit-bpf-test")
    with device.attach(first, "ingress") as link, device.attach(first, "egress") as other:
        link.pin(bpffs / "link")
        with pytest.raises(FileExistsError, match=re.escape(f"pin link {other.id} on ve0 (egress) at {bpffs}/link")):
            other.pin(bpffs / "link")
        with pytest.raises(FileNotFoundError, match="no such directory"):
            other.pin(bpffs / "missing" / "link")
        with pytest.raises(OSError, match="mount -t bpf bpf"):
            other.pin(plain)
        assert not plain.exists()
        assert other.pinned_at is None
        (bpffs / "link").unlink()
        with pytest.raises(FileNotFoundError, match=re.escape(f"from {bpffs}/link")):
            link.unpin()
    with pytest.raises(FileNotFoundError, match="nothing is pinned there"):
        Link.open_pinned(bpffs / "link")
    with pytest.raises(OSError, match="mount -t bpf bpf"):
        Link.open_pinned(__file__)


def test_what_is_pinned_but_is_no_link_is_named(obj: BPFObject, bpffs: Path) -> None:
    obj.maps["numbers"].pin(bpffs / "map")
    with pytest.raises(ValueError, match=r"what is pinned at .*/map is a map, not a link"):
        Link.open_pinned(bpffs / "map")


def test_a_thread_that_closes_a_link_does_not_pull_it_from_under_another(device: Device, obj: BPFObject) -> None:
    """Each call works on the link as it was, or says that it is closed; never on somebody else's descriptor."""
    program = obj.programs

    def swap(link: Link, started: threading.Barrier, failures: list[BaseException]) -> None:
        started.wait()
        try:
            for name in ("second", "third", "first") * 10:
                link.update(program[name])
        except BaseException as error:
            failures.append(error)

    for _ in range(20):
        link = device.attach(program["first"], "ingress")
        failures: list[BaseException] = []
        started = threading.Barrier(2)
        thread = threading.Thread(target=swap, args=(link, started, failures))
        thread.start()
        started.wait()
        link.close()
        thread.join()
        assert [type(error) for error in failures] in ([], [ValueError])
        assert device.programs("ingress").programs == ()


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


def test_each_packet_meets_exactly_one_of_two_programs_that_are_swapped(wire: Wire) -> None:
    swapping.each_packet_meets_exactly_one_of_two_programs(wire)


def test_the_classic_example_drops_a_port_and_then_another(wire: Wire) -> None:
    with BPFObject.compile(DROP_PORT.SOURCE) as obj:
        found = DROP_PORT.drop_one_then_the_other(obj, wire.pair, wire.left.netns, wire.right.netns, wire.left.address)
    assert found == [[12345, 12346], [12346], [12345], [12345, 12346]]


COMPETE = """
import sys
sys.path[:0] = {path!r}
from netkit_bpf import Link, NetNS, NetkitPair, _core
from netkit_bpf.devices.device import Device
from netkit_bpf.enums import Direction
from programs import JUDGES, OBSERVER, ONE, VERDICTS, WITNESSES, build, load

with load() as obj:
    netns = NetNS.open({pid})
    device = Device({ifindex}, "ve0", netns)
    link = Link.open_pinned({pin!r})
    seen = link.program
    revision = device.programs("ingress").revision
    print("ready", flush=True)
    sys.stdin.readline()
    for attempt in (
        lambda: link.update(obj.programs["second"], expected=seen),
        lambda: device.attach(obj.programs["third"], "egress", expected_revision=1).pin({pin!r} + {me!r}),
    ):
        try:
            attempt()
            print("won", flush=True)
        except OSError as error:
            print(error.errno, error, flush=True)
    sys.stdin.readline()
"""


def test_of_two_processes_that_swap_at_once_one_wins_and_the_other_reads_estale(
    device: Device, first: Program, bpffs: Path
) -> None:
    path = [str(Path(swapping.__file__).parent)]
    with device.attach(first, "ingress") as link, device.netns.popen(["sleep", "60"]) as holder:
        link.pin(bpffs / "link")
        others = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    COMPETE.format(path=path, pid=holder.pid, ifindex=device.ifindex, pin=str(bpffs / "link"), me=me),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for me in "ab"
        ]
        lines = []
        for other in others:
            assert other.stdout is not None
            assert other.stdout.readline() == "ready\n"
        for other in others:
            assert other.stdin is not None
            other.stdin.write("go\n")
            other.stdin.flush()
        for other in others:
            assert other.stdout is not None
            lines.append([other.stdout.readline(), other.stdout.readline()])
        for swap in zip(*lines, strict=True):
            assert sorted(line == "won\n" for line in swap) == [False, True], lines
            lost = next(line for line in swap if line != "won\n")
            assert lost.startswith(f"{errno.ESTALE} "), lost
            assert "ESTALE: expected " in lost
            assert ", found " in lost
        assert link.program.name == "second"
        assert names(device.programs("egress")) == ["third"]
        for other in others:
            other.communicate("done\n")
            assert other.returncode == 0
        holder.kill()
