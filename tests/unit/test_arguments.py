"""Bad input is refused before the kernel is asked: these run without any privilege."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from netkit_bpf import (
    BPFObject,
    Device,
    Filter,
    Link,
    MaglevTable,
    Map,
    Monitor,
    NetkitPair,
    NetNS,
    Program,
    Rule,
    Ruleset,
    Watch,
)

HASH = {"type": "hash", "max_entries": 1, "key_size": 4, "value_size": 4}


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (NetNS, {"space": "red"}, r"NetNS.open\(\) takes a name"),
        (BPFObject, {"core": "a.bpf.o", "name": "a"}, r"BPFObject.open\(\) takes a path"),
        (Map, {"info": "/sys/fs/bpf/map", "types": None}, r"Map.open_pinned\(\) takes a path"),
        (Link, {"core": "/sys/fs/bpf/link", "hook": None, "program": None}, r"Link.open_pinned\(\) takes a path"),
        (Watch, {"primary": "nk0", "peer": None}, r"NetkitPair.watch\(\) makes a watch"),
        (Map.create, {**HASH, "types": 1}, "types must be a BPFObject or a Map, not int"),
        (Ruleset, {"sets": 1}, "sets must be a Mapping, not int"),
    ],
)
def test_what_is_made_otherwise_says_how(make: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make(**options)


@pytest.mark.parametrize(
    "read",
    [
        Ruleset.parse,
        Rule.parse,
        lambda text: Rule("pass", src=text),
        lambda text: Rule("pass", rate=text),
        lambda text: Ruleset(["pass"]).match(text, "peer"),
        Filter,
        BPFObject.compile,
        lambda text: MaglevTable([text]),
        Map.open_pinned,
        Link.open_pinned,
        Program.open_pinned,
    ],
)
def test_what_is_no_character_is_refused_where_it_stands(read: Callable[[str], object]) -> None:
    """Python's files give such for bytes that are not UTF-8, with errors="surrogateescape"."""
    with pytest.raises(ValueError, match=r"has '\\udcff' at position 5, which is no character"):
        read("drop \udcff")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": ""}, "name is empty: a device needs a name"),
        ({"name": "a" * 16}, "has 16 bytes, a device name at most 15"),
        ({"name": "é" * 8}, "has 16 bytes, a device name at most 15"),
        ({"name": "a" * 15}, "leaves no room for a 'p' behind it: give peer_name"),
        ({"name": "é" * 7 + "a"}, "leaves no room for a 'p' behind it: give peer_name"),
        ({"name": "nk\udcff"}, "is not UTF-8: open a device that has it by its ifindex"),
        ({"name": "a b"}, "must not contain"),
        ({"name": "a\vb"}, "must not contain"),
        ({"name": "a\u00a0b"}, r"must not contain '\xa0': one of its bytes is 0xa0"),
        ({"name": "nkà"}, "must not contain 'à': one of its bytes is 0xa0, which the kernel treats as white space"),
        ({"name": "nk†"}, "must not contain '†': one of its bytes is 0xa0"),
        ({"name": "a/b"}, "must not contain"),
        ({"name": "a:b"}, "must not contain"),
        ({"name": "a\0b"}, "must not contain"),
        ({"name": "nk%d"}, "must not contain"),
        ({"name": "all"}, "must not contain"),
        ({"name": "."}, "must not contain"),
        ({"name": ".."}, "must not contain"),
        ({"peer_name": ""}, "peer_name is empty"),
        ({"peer_name": "nk0"}, "peer_name is 'nk0' as well: the two ends need two names"),
        ({"mode": "l4"}, "mode must be 'l2' or 'l3', not 'l4'"),
        ({"policy": "drop"}, "policy must be 'forward' or 'blackhole', not 'drop'"),
        ({"peer_policy": ""}, "peer_policy must be"),
        ({"scrub": "all"}, "scrub must be 'none' or 'default', not 'all'"),
        ({"peer_scrub": 0}, "peer_scrub must be"),
        ({"mtu": 67}, "mtu must be 68 to 65535, not 67"),
        ({"peer_mtu": 65536}, "peer_mtu must be 68 to 65535, not 65536"),
        ({"headroom": -1}, "headroom must be 0 to 65535, not -1"),
        ({"tailroom": 65536}, "tailroom must be 0 to 65535, not 65536"),
        ({"group": -1}, "group must be 0 to 4294967295, not -1"),
        ({"peer_txqueuelen": 1 << 31}, "peer_txqueuelen must be 0 to 2147483647"),
        ({"num_tx_queues": 0}, "num_tx_queues must be 1 to 4096, not 0"),
        ({"num_rx_queues": 4097}, "num_rx_queues must be 1 to 4096, not 4097"),
        ({"gso_max_size": 524281}, "gso_max_size must be 1 to 524280, not 524281"),
        ({"peer_gso_max_segs": 65536}, "peer_gso_max_segs must be 1 to 65535, not 65536"),
        ({"addrgenmode": "mac"}, "addrgenmode must be 'eui64' or 'none' or 'stable_secret' or 'random', not 'mac'"),
        ({"alias": "é" * 128}, "alias must have at most 255 bytes"),
        ({"peer_alias": "a\0b"}, "peer_alias must have at most 255 bytes and no NUL"),
        ({"ifindex": 0}, "ifindex must be 1 to 2147483647, not 0"),
        ({"peer_ifindex": 5}, "peer_ifindex: the kernel takes it only together with ifindex"),
        ({"mac": "02:00:00:00:00:01"}, "an L3 device has no MAC address; one in l2 mode has"),
        ({"mac": "02:00:00:00:00", "mode": "l2"}, "must be written as '02:00:00:00:00:01'"),
        ({"mac": "0200:00:00:00:0001", "mode": "l2"}, "must be written as '02:00:00:00:00:01'"),
        ({"mac": "01:00:5e:00:00:01", "mode": "l2"}, "is a group address or zero"),
        ({"peer_mac": "00:00:00:00:00:00", "mode": "l2"}, "is a group address or zero"),
    ],
)
def test_a_pair_that_cannot_be_is_a_value_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        NetkitPair.create(**options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"name": b"nk0"},
        {"name": 3},
        {"peer_name": 3},
        {"mtu": "1500"},
        {"headroom": 1.5},
        {"mac": 1, "mode": "l2"},
        {"netns": "here"},
        {"peer_netns": 1},
        {"up": "yes"},
        {"alias": b"x"},
        {"group": "lab"},
        {"addrgenmode": 1},
        {"ifindex": True},
    ],
)
def test_an_argument_of_the_wrong_type_is_a_type_error(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="must be"):
        NetkitPair.create(**options)


def test_an_unknown_option_is_a_type_error_that_names_a_like_one_or_all() -> None:
    with pytest.raises(TypeError, match=r"'polcy' is not an option here: did you mean 'policy'\?"):
        NetkitPair.create(polcy="forward")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"'colour' is not an option here: there are addrgenmode, alias.* policy"):
        NetkitPair.create(colour="red")  # type: ignore[call-arg]


@pytest.fixture
def pair() -> Iterator[NetkitPair]:
    """Ends that nobody made: whoever asks the kernel about them fails with another error."""
    with NetNS.current() as here:
        yield NetkitPair(Device(2**30, "nk0", here), Device(2**30 + 1, "nk0p", here), owned=False)


@pytest.mark.parametrize("ring_size", [0, -1, 1, 4095, 4097, 12288, 2**31, 2**40])
def test_an_absurd_ring_size_is_a_value_error(pair: NetkitPair, ring_size: int) -> None:
    with pytest.raises(ValueError, match=f"ring_size must be a power of two from 4096 to 1073741824, not {ring_size}"):
        Monitor(pair, ring_size=ring_size)


@pytest.mark.parametrize("sides", [[], ["both"], ["peer", "peer"], "left"])
def test_absurd_sides_are_a_value_error(pair: NetkitPair, sides: Any) -> None:
    with pytest.raises(ValueError, match="sides must"):
        Monitor(pair, sides=sides)


def test_an_absurd_queue_size_is_a_value_error(pair: NetkitPair) -> None:
    with pytest.raises(ValueError, match="queue_size must be at least 4096 bytes, not 1"):
        Monitor(pair, queue_size=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rings": "cpu"}, "rings must be 'shared', 'percpu' or 'ordered', not 'cpu'"),
        ({"rings": 2}, "rings must be 'shared', 'percpu' or 'ordered', not 2"),
        ({"thread": "mine"}, "thread must be 'shared', 'own' or None, not 'mine'"),
        ({"thread": False}, "thread must be 'shared', 'own' or None, not False"),
    ],
)
def test_absurd_rings_and_threads_are_a_value_error(pair: NetkitPair, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Monitor(pair, **options)


def test_only_a_namespace_can_be_opened_as_one() -> None:
    with pytest.raises(ValueError, match="/etc/hostname is not a network namespace"):
        NetNS.open("/etc/hostname")


def test_a_monitor_takes_pairs_one_by_one_and_each_once(pair: NetkitPair) -> None:
    for wrong in ("nk0", [pair], None):
        with pytest.raises(TypeError, match=r"pair must be a NetkitPair, not .*: several go one by one"):
            Monitor(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a pair is named twice"):
        Monitor(pair, pair)


def test_a_name_of_a_device_is_no_number_below_one() -> None:
    with pytest.raises(ValueError, match="ifindex must be 1 to"):
        NetkitPair.open(0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-c", "x"], "must be a whole number, 1 or more, not 'x'"),
        (["-c", "0"], "must be a whole number, 1 or more, not '0'"),
        (["--duration", "1s"], "must be a number of seconds, more than 0, not '1s'"),
        (["--duration", "inf"], "must be a number of seconds, more than 0, not 'inf'"),
        (["--existing", "--mode", "l2"], "leave them out with --existing"),
    ],
)
def test_the_command_explains_a_wrong_argument(arguments: list[str], message: str) -> None:
    command = [sys.executable, "-m", "netkit_bpf", "monitor", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr


def test_the_version_is_one() -> None:
    import netkit_bpf

    done = subprocess.run([sys.executable, "-m", "netkit_bpf", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"netkit-bpf {netkit_bpf.__version__}\n"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", "x" * 256])
def test_the_name_of_a_namespace_must_be_one_of_a_file(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a network namespace"):
        NetNS.create(name)


def test_a_namespace_that_is_not_there_is_not_found() -> None:
    for which in ("nk-test-missing", "/run/netns/nk-test-missing"):
        with pytest.raises(FileNotFoundError):
            NetNS.open(which)
    with pytest.raises(FileNotFoundError):
        NetNS.open(2**30)


@pytest.mark.parametrize("cidr", ["fd00::1", "fd00::1/129", "10.0.0.1/33", "x/1", ""])
def test_an_address_needs_its_prefix_length(pair: NetkitPair, cidr: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        pair.primary.add_address(cidr)


@pytest.mark.parametrize(
    ("dst", "via", "message"),
    [
        ("fd00::1", None, "has no prefix length"),
        ("fd00::1/64", None, "has host bits set"),
        ("10.0.0.0/33", None, "does not appear to be"),
        ("fd00::/64", "10.0.0.1", "an IPv6 destination has no IPv4 gateway"),
        ("default", "x", "does not appear to be"),
    ],
)
def test_an_impossible_route_is_a_value_error(pair: NetkitPair, dst: str, via: str | None, message: str) -> None:
    for change in (pair.primary.add_route, pair.primary.remove_route):
        with pytest.raises(ValueError, match=message):
            change(dst, via=via)


def test_what_is_set_on_a_device_is_checked_first(pair: NetkitPair) -> None:
    with pytest.raises(ValueError, match="mtu must be 0 to 2147483647, not -1"):  # the rest is for the device to say
        pair.primary.set_mtu(-1)
    with pytest.raises(TypeError, match=r"'num_tx_queues' is not an option here: did you mean"):
        pair.primary.set(num_tx_queues=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="say what to change"):
        pair.primary.set()
    with pytest.raises(AttributeError, match=r"mtu is read from the kernel: change it with set\(mtu=1400\)"):
        pair.primary.mtu = 1400
    with pytest.raises(ValueError, match="name 'nk%d' must not contain"):
        pair.primary.rename("nk%d")
    with pytest.raises(TypeError, match="netns must be a NetNS, not str"):
        pair.primary.move("there")  # type: ignore[arg-type]
