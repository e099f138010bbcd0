"""netkit-bpf pair and reap, beside ip: each shows what the other made."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import netkit_bpf as nk
from elsewhere import needs_macs, needs_scrub, only_where
from forked import Forked
from netkit_bpf import NetkitDevice, NetkitPair, NetNS
from netkit_bpf.command import main
from netkit_bpf.internal import kernel_release

Command = Callable[..., str]


@pytest.fixture
def place() -> Iterator[NetNS]:
    with NetNS.create("nk-test-command") as netns:
        yield netns


@pytest.fixture
def command(place: NetNS, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command in the namespace; returns its output, or what it complained of."""

    def run(line: str, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["netkit-bpf", *line.split(), "-n", "nk-test-command"])
        assert main() == status
        written = capsys.readouterr()
        assert bool(written.err) == bool(status), written.err
        return written.err if status else written.out

    return run


def ip(netns: NetNS, *words: str) -> list[dict[str, Any]]:
    done = netns.run(["ip", "-json", "-details", *words], capture_output=True, text=True, check=True)
    return [each for each in json.loads(done.stdout) if each] if done.stdout else []


def assert_agrees(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Both tell the same of an end."""
    same = ["ifindex", "ifname", "mtu", "txqlen", "num_tx_queues", "num_rx_queues", "gso_max_size", "gso_max_segs"]
    for key in [*same, "gro_max_size", "address", "inet6_addr_gen_mode"]:
        assert ours[key] == theirs[key], key
    assert ours["ifalias"] == theirs.get("ifalias", "")
    assert ours["up"] == ("UP" in theirs["flags"])
    assert str(ours["group"]) == theirs["group"].replace("default", "0")
    assert theirs["linkinfo"]["info_kind"] == "netkit"
    if ip_knows_netkit():
        data = theirs["linkinfo"]["info_data"]
        assert (ours["policy"], ours["scrub"]) == (data["policy"], data["scrub"])
    else:  # that ours are right is seen in what they do: test_walkthroughs.py, test_links.py
        assert "info_data" not in theirs["linkinfo"]


@functools.cache
def ip_knows_netkit() -> bool:
    """iproute2 prints what is netkit's own since 6.7."""
    version = subprocess.run(
        ["ip", "-V"], capture_output=True, text=True, check=True
    ).stdout  # "... iproute2-6.1.0, ..."
    return tuple(map(int, version.partition("iproute2-")[2].split(",")[0].split(".")[:2])) >= (6, 7)


@needs_macs
@needs_scrub
def test_a_pair_is_made_as_said_and_ip_sees_it_so(command: Command, place: NetNS) -> None:
    assert command("pair show") == ""
    command(
        "pair create nk0 --peer-name other --mode l2 --policy blackhole --peer-scrub default --mtu 9000 --peer-mtu 8000"
        " --address 02:00:00:00:00:01 --peer-address 02:00:00:00:00:02 --group 7 --peer-group 8 --txqueuelen 10"
        " --alias uplink --addrgenmode none"
    )
    (pair,) = json.loads(command("pair show --json"))
    assert (pair["mode"], pair["headroom"], pair["tailroom"]) == ("l2", 0, 0)
    primary, peer = pair["primary"], pair["peer"]
    assert (primary["ifname"], primary["policy"], primary["scrub"]) == ("nk0", "blackhole", "none")
    assert (peer["ifname"], peer["policy"], peer["scrub"]) == ("other", "forward", "default")
    assert (primary["mtu"], peer["mtu"], primary["group"], peer["group"]) == (9000, 8000, 7, 8)
    assert (primary["address"], peer["address"]) == ("02:00:00:00:00:01", "02:00:00:00:00:02")
    assert (primary["ifalias"], primary["txqlen"], primary["up"]) == ("uplink", 10, True)
    (theirs,) = ip(place, "link", "show", "nk0")
    assert_agrees(primary, theirs)
    assert theirs["link"] == "other"
    (theirs,) = ip(place, "link", "show", "other")
    assert_agrees(peer, theirs)
    assert theirs["link"] == "nk0"


def test_a_pair_that_ip_made_is_shown_as_ip_shows_it(command: Command, place: NetNS) -> None:
    place.run(["ip", "link", "add", "nk5", "mtu", "1400", "type", "netkit"], check=True)
    place.run(["ip", "link", "set", "nk5", "up", "alias", "made by ip"], check=True)
    place.run(["ip", "address", "add", "10.42.0.1/24", "dev", "nk5"], check=True)
    (pair,) = json.loads(command("pair show nk5 --json"))
    shown = {each["ifname"]: each for each in ip(place, "link")}
    assert_agrees(pair["primary"], shown["nk5"])
    assert_agrees(pair["peer"], shown[pair["peer"]["ifname"]])
    assert pair["primary"]["addr_info"] == ["10.42.0.1/24"]
    assert (pair["mode"], pair["primary"]["policy"], pair["primary"]["scrub"]) == ("l3", "forward", "default")
    assert command("pair show nk5").splitlines()[:2] == [
        "nk5: l3",
        f"    primary  nk5 ifindex {shown['nk5']['ifindex']} up mtu 1400 policy forward scrub default"
        " netns nk-test-command alias made by ip 10.42.0.1/24",
    ]
    command(f"pair delete {pair['peer']['ifname']}")
    assert [each["ifname"] for each in ip(place, "link")] == ["lo"]


def test_a_pair_is_changed_and_moved_as_said(command: Command, place: NetNS) -> None:
    command("pair create nk0 --down")
    with NetNS.create("nk-test-elsewhere") as elsewhere:
        command(
            "pair set nk0 --policy blackhole --peer-policy blackhole --mtu 2000 --group 3 --name nk1 --up"
            " --peer-mtu 2001 --peer-alias far --peer-name nk2 --peer-move nk-test-elsewhere"
        )
        (pair,) = json.loads(command("pair show nk1 --json"))
        primary, peer = pair["primary"], pair["peer"]
        assert (primary["policy"], peer["policy"]) == ("blackhole", "blackhole")
        assert (primary["ifname"], primary["mtu"], primary["group"], primary["up"]) == ("nk1", 2000, 3, True)
        assert (peer["ifname"], peer["mtu"], peer["ifalias"], peer["up"]) == ("nk2", 2001, "far", False)
        assert (primary["netns"], peer["netns"]) == ("nk-test-command", "nk-test-elsewhere")
        assert "\n    peer     nk2 " in command("pair show nk1")
        command("pair delete nk1")
        assert [each["ifname"] for each in ip(elsewhere, "link")] == ["lo"]


def test_what_create_sets_set_changes(command: Command, place: NetNS) -> None:
    numbers = "--mtu 2000 --txqueuelen 77 --group 5 --gso-max-size 70000 --gso-max-segs 9 --gro-max-size 80000"
    rest = "--address 02:00:00:00:00:07 --addrgenmode none --alias changed"
    command("pair add nk0 --mode l2")
    command(f"pair set nk0 {numbers} {rest} {f'{numbers} {rest}'.replace('--', '--peer-').replace(':07', ':08')}")
    command(f"pair add nk1 --mode l2 {numbers} {rest} --peer-alias changed --peer-address 02:00:00:00:00:08")
    changed, created = json.loads(command("pair ls -j"))
    for side, theirs in (("primary", "nk0"), ("peer", "nk0p")):
        assert_agrees(changed[side], ip(place, "link", "show", theirs)[0])
        for each in (changed, created):
            del each[side]["ifindex"], each[side]["ifname"], each[side]["addr_info"]
    assert changed == created
    refused = command("pair set nk0 --mtu 67", status=1)
    assert refused.startswith("netkit-bpf: set the mtu of nk0: Invalid argument (kernel: mtu less than device minimum")
    assert command("pair set nk0 --peer-gso-max-segs 0", status=1) == (
        "netkit-bpf: --peer-gso-max-segs must be 1 to 65535, not 0\n"
    )
    command("pair del nk0 nk1")
    assert command("pair list") == ""


def test_names_and_aliases_of_others_cannot_steer_the_terminal(command: Command, place: NetNS) -> None:
    NetkitPair.create("nk\x1b[2J", peer_name="nk\u202e1", alias="a\nnk9: l3\x07", netns=place)
    text = command("pair show")
    assert text.isprintable() or set(text) - {"\n"} == {each for each in text if each.isprintable()}
    assert text.splitlines()[0] == r"nk\x1b[2J: l3"
    assert r"alias a\nnk9: l3\x07" in text
    (shown,) = json.loads(command("pair show --json"))
    assert (shown["primary"]["ifname"], shown["peer"]["ifname"]) == ("nk\x1b[2J", "nk\u202e1")
    assert shown["primary"]["ifalias"] == "a\nnk9: l3\x07"
    NetkitPair.open("nk\x1b[2J", place).delete()


def test_a_pair_is_found_by_an_alternative_name(command: Command, place: NetNS) -> None:
    command("pair create nk0")
    long = "a-name-that-is-longer-than-fifteen-bytes"
    place.run(["ip", "link", "property", "add", "dev", "nk0p", "altname", long], check=True)
    assert command(f"pair show {long}").startswith("nk0: l3\n")
    command(f"pair delete {long}")


def test_a_single_device_is_shown_changed_and_deleted(command: Command, place: NetNS) -> None:
    only_where(kernel_release.is_at_least("7.1"), "Linux 7.1 or later")
    NetkitDevice.create("nk7", netns=place, headroom=32, num_rx_queues=2, alias="alone")
    kept = NetkitPair.create(netns=place)  # or it would be told that nobody deletes it
    pair, single = json.loads(command("pair show --json"))
    assert (pair["pairing"], single["pairing"]) == ("pair", "single")
    assert (single["mode"], single["headroom"], single["tailroom"], single["peer"]) == ("l3", 32, 0, None)
    (theirs,) = ip(place, "link", "show", "nk7")
    shown = single["primary"]
    assert (shown["policy"], shown["scrub"], shown["num_rx_queues"]) == (None, None, 2)
    for key in ("ifindex", "ifname", "mtu", "num_rx_queues", "ifalias", "inet6_addr_gen_mode"):
        assert shown[key] == theirs[key], key
    command("pair set nk7 --mtu 2000 --alias changed --name nk8 --down")
    assert command("pair show nk8") == (
        f"nk8: l3 single headroom 32\n    primary  nk8 ifindex {theirs['ifindex']} down mtu 2000 netns nk-test-command"
        " alias changed\n"
    )
    refused = command("pair set nk8 --mtu 3000 --policy blackhole", status=1)
    assert refused == "netkit-bpf: nk8 is a single netkit device: it has no peer and no policy\n"
    with pytest.raises(ValueError, match=r"nk0 is an end of a pair: use NetkitPair\.open"):
        NetkitDevice.open("nk0", place)
    assert NetkitDevice.open("nk8", place).mtu == 2000
    command(f"pair delete nk8 {kept.primary.name}")
    assert [each["ifname"] for each in ip(place, "link")] == ["lo"]


def test_a_pair_of_the_command_is_no_orphan(command: Command, place: NetNS) -> None:
    command("pair create nk0")
    pair = NetkitPair.open("nk0", place)
    assert (pair.primary.alias, pair.peer.alias) == ("", "")
    assert nk.orphans(place) == []
    pair.delete()


def test_what_a_killed_process_left_is_named_then_removed(command: Command, place: NetNS) -> None:
    with Forked(lambda: NetkitPair.create("nk0", netns=place)) as child:
        assert command("reap") == ""
        child.kill()
    text = f"nk0 in nk-test-command, made by process {child.pid}, which has ended\n"
    assert command("reap --dry-run") == f"would remove {text}"
    assert command("reap") == f"removed {text}"
    assert command("reap") == ""


def test_refusals_read_well(command: Command, place: NetNS) -> None:
    command("pair create nk0")
    for line, text in {
        "pair create nk0": "create netkit pair nk0: File exists (a device named nk0 or nk0p is there already)",
        "pair create nk1 --peer-netns nowhere": "there is no network namespace 'nowhere': see ip netns",
        "pair create nk1 --peer-netns 99999999": "there is neither a network namespace nor a process 99999999: "
        "see ip netns",
        "pair show nk9": "there is no device nk9 in network namespace nk-test-command: see netkit-bpf pair show",
        "pair set nk9 --up": "there is no device nk9 in network namespace nk-test-command: see netkit-bpf pair show",
        "pair set lo --up": "lo is a plain device, not a netkit device",
        "pair delete nk9": "there is no device nk9 in network namespace nk-test-command: see netkit-bpf pair show",
    }.items():
        assert command(line, status=1) == f"netkit-bpf: {text}\n"
    command("pair delete nk0")
