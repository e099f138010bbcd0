"""Links that are closed, detached, pinned, and outlive what they were made with."""

from __future__ import annotations

import errno
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from elsewhere import needs_tcx
from netkit_bpf import (
    BPFObject,
    Device,
    Direction,
    HookPrograms,
    Link,
    NetkitPair,
    NetNS,
    Program,
)
from programs import load
from traffic import Wire, ping

pytestmark = needs_tcx

SHORT = 0.2  # seconds to wait for a reply that must not come


def names(programs: HookPrograms) -> list[str | None]:
    return [each.name for each in programs.programs]


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
