"""Links whose program is replaced: each packet meets one of the two."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

import swapping
from elsewhere import needs_tcx
from examples import example
from netkit_bpf import (
    BPFObject,
    Device,
    HookPrograms,
    Program,
)
from programs import build
from traffic import Wire

pytestmark = needs_tcx

DROP_PORT = example("drop_port")


def names(programs: HookPrograms) -> list[str | None]:
    return [each.name for each in programs.programs]


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


def test_each_packet_meets_exactly_one_of_two_programs_that_are_swapped(wire: Wire) -> None:
    swapping.each_packet_meets_exactly_one_of_two_programs(wire)


def test_the_classic_example_drops_a_port_and_then_another(wire: Wire) -> None:
    with BPFObject.open(build(DROP_PORT.SOURCE)) as obj:
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
    path = sys.path
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
