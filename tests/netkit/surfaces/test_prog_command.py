"""netkit-bpf prog: programs on the hooks of a pair that outlive the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netkit_bpf import Firewall, Monitor, NetkitPair, Side
from netkit_bpf.command import main
from pairs import pinnable_wire
from programs import VERDICTS, build, load
from traffic import Wire, ping

Command = Callable[..., str]
PLACE = "nk-test-prog"


@pytest.fixture
def wire() -> Iterator[Wire]:
    with pinnable_wire(PLACE) as made:
        yield made


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*words: str, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["netkit-bpf", "prog", *words, "-n", PLACE])
        assert main() == status
        written = capsys.readouterr()
        return written.out or written.err

    return run


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "verdicts.bpf.o"
    path.write_bytes(build(VERDICTS))
    return str(path)


def names(wire: Wire, side: Side = Side.PEER) -> list[str | None]:
    return [each.name for each in wire.pair.programs(side).programs]


def echoes(wire: Wire) -> bool:
    return ping(wire.right, wire.left, [56], timeout=0.3) == 1


def test_programs_are_attached_in_order_listed_replaced_and_detached(wire: Wire, command: Command, source: str) -> None:
    said = command("attach", "nk0", "peer", source, "--program", "first")
    place = Path(said.rpartition(" ")[2].strip())
    assert said.startswith("netkit-bpf: program first is attached to nk0 (peer) as ")
    assert place.exists()
    command("attach", "nk0", "peer", source, "--program", "drop", "--before", "first")
    assert not echoes(wire)
    command("attach", "nk0", "peer", source, "--program", "second", "--after", "drop")
    command("attach", "nk0", "peer", source, "--program", "third", "--before", "all")
    assert names(wire) == ["third", "drop", "second", "first"]

    listed = json.loads(command("list", "--json"))
    assert [(each["position"], each["name"], each["side"], each["rank"]) for each in listed] == [
        (number, name, "peer", None) for number, name in enumerate(names(wire), 1)
    ]
    assert listed[3]["pinned"] == [str(place)]
    assert listed[3]["pids"] == []
    lines = command("show", "nk0").splitlines()
    assert lines[0] == "nk0 (peer)"
    first = listed[3]
    assert lines[4] == f"    4  first id {first['id']} link {first['link_id']} pinned at {place}"

    again = command("attach", "nk0", "peer", source, "--program", "first", status=1)
    assert "is attached to nk0 (peer) so already: --replace replaces it" in again
    command("attach", "nk0", "peer", source, "--program", "first", "--replace")
    (new,) = [each for each in json.loads(command("list", "--json")) if each["name"] == "first"]
    assert (new["link_id"], new["position"]) == (first["link_id"], 4)
    assert new["id"] != first["id"]
    missing = command("attach", "nk0", "primary", source, "--program", "first", "--replace", status=1)
    assert "no program first was attached to nk0 (primary)" in missing

    command("detach", "nk0", "peer", "drop")
    assert echoes(wire)
    command("detach", "nk0", "peer", str(new["id"]))
    assert names(wire) == ["third", "second"]
    said = command("detach", "nk0", "peer", "drop", status=1)
    assert said.startswith("netkit-bpf: no program is called drop on nk0 (peer): there is third (")
    for name in ("second", "third"):
        command("detach", "nk0", "peer", name)
    assert command("list") == ""
    assert not place.parents[2].exists()  # prog, with what was in it


def test_a_loaded_program_is_attached_by_its_pin_and_is_gone_with_its_pair(
    wire: Wire, command: Command, tmp_path: Path
) -> None:
    source = tmp_path / "drop.bpf.c"
    source.write_text('#include <netkit.h>\nSEC("netkit/peer") int drop(struct __sk_buff *skb) { return 2; }\n')
    command("attach", "nk0", "peer", str(source))
    command("detach", "nk0", "peer", "drop")
    subprocess.run([sys.executable, "-m", "netkit_bpf", "prog", "load", source, "/sys/fs/bpf/mine"], check=True)
    command("attach", "nk0", "peer", "/sys/fs/bpf/mine/drop")
    assert not echoes(wire)
    assert [each["name"] for each in json.loads(command("list", "nk0", "--json"))] == ["drop"]
    wire.pair.delete()
    with NetkitPair.create("nk0", netns=wire.left.netns) as pair:
        command("attach", "nk0", "peer", "/sys/fs/bpf/mine/drop")
        assert [each.name for each in pair.programs("peer").programs] == ["drop"]


def test_what_others_hold_is_shown_and_left_to_them(wire: Wire, command: Command) -> None:
    with Monitor(wire.pair), load() as programs:
        with wire.pair.attach(programs.programs["pass"], "peer"):
            firewall = Firewall.replace_pinned(wire.pair, "pass\n")
            listed = [each for each in json.loads(command("list", "--json")) if each["side"] == "peer"]
            assert [each["name"] for each in listed] == ["firewall_peer", "monitor_peer", "pass"]
            assert [each["rank"] for each in listed] == ["firewall", "observer", None]
            assert listed[0]["pinned"][0].startswith("/sys/fs/bpf/netkit-bpf/firewall/")
            assert [each["pid"] for each in listed[2]["pids"]] == [os.getpid()]
            said = command("detach", "nk0", "peer", "pass", status=1)
            assert said.startswith("netkit-bpf: program pass on nk0 (peer) is held by process ")
            said = command("detach", "nk0", "peer", "firewall_peer", status=1)
            assert said.endswith("is a firewall's: netkit-bpf fw flush nk0 removes that\n")
            firewall.unpin()
            firewall.close()
    assert command("list") == ""
