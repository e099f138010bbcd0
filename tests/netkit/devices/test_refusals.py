"""What the kernel refuses of devices and hooks: each error's type, its errno, and a text that says what to do."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from elsewhere import has
from netkit_bpf import BPFObject, NetkitDevice, NetkitPair, NetNS, NotSupportedError
from netkit_bpf.devices.pair import create_pairs
from netkit_bpf.devices.pair_options import check_pair_options
from netkit_bpf.internal import kernel_release
from programs import MANY, VERDICTS, load
from unprivileged import unprivileged

MOST = 63  # programs on a hook


def names(netns: NetNS) -> set[str]:
    return {name for _, name in netns.call(socket.if_nameindex)} - {"lo"}


class Scene(NamedTuple):
    """The pairs nk0 and x0, each from here to there, and another nk0 elsewhere."""

    here: NetNS
    there: NetNS
    elsewhere: NetNS
    pair: NetkitPair

    def state(self) -> list[object]:
        """What no refusal may change."""
        return [
            *[names(netns) for netns in (self.here, self.there, self.elsewhere)],
            *[(end.name, end.netns, end.mtu, end.is_up, end.addresses) for end in (self.pair.primary, self.pair.peer)],
            (self.pair.policy, self.pair.peer_policy),
        ]

    def create(self, name: str, **options: Any) -> NetkitPair:
        return NetkitPair.create(name, netns=self.here, peer_netns=self.there, **options)

    def create_oddly(self, **odd: int) -> object:
        """A pair that Python refuses, asked of the kernel."""
        options = check_pair_options("y0", mode="l2")
        for key, value in odd.items():
            setattr(options, key, value)
        return create_pairs(self.here, [(options, self.there)])

    def create_l3_with_mac(self) -> object:
        options = check_pair_options("y0", mode="l3")
        options.primary.mac = [2, 0, 0, 0, 0, 1]
        return create_pairs(self.here, [(options, self.there)])

    @property
    def from_the_peer(self) -> NetkitPair:
        return NetkitPair(self.pair.peer, self.pair.primary, owned=False)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with ExitStack() as stack:
        here, there, elsewhere = (stack.enter_context(NetNS.create()) for _ in range(3))
        pair = stack.enter_context(NetkitPair.create("nk0", netns=here, peer_netns=there))
        stack.enter_context(NetkitPair.create("x0", netns=here, peer_netns=there))
        stack.enter_context(NetkitPair.create("nk0", netns=elsewhere))
        pair.primary.add_address("10.42.0.1/24")
        yield Scene(here, there, elsewhere, pair)


class Refusal(NamedTuple):
    """What is tried, and how it ends."""

    attempt: Callable[[Scene], object]
    type: type[OSError]
    number: int
    text: str  # a pattern


REFUSALS = {
    "the name is taken": Refusal(
        lambda scene: scene.create("nk0"),
        FileExistsError,
        errno.EEXIST,
        r"create netkit pair nk0: .*a device named nk0 or nk0p is there already",
    ),
    "the peer's name is taken": Refusal(
        lambda scene: scene.create("y0", peer_name="x0p"),
        FileExistsError,
        errno.EEXIST,
        r"create netkit pair y0: .*a device named y0 or x0p is there already",
    ),
    "the number is taken": Refusal(
        lambda scene: scene.create("y0", ifindex=scene.pair.primary.ifindex),
        FileExistsError,
        errno.EEXIST,
        r"create netkit pair y0: .*or one with that ifindex",
    ),
    "the peer's number is taken": Refusal(
        lambda scene: scene.create("y0", ifindex=4000, peer_ifindex=scene.pair.peer.ifindex),
        OSError,
        errno.EBUSY,
        r"create netkit pair y0: .*the ifindex is taken",
    ),
    "no such policy": Refusal(
        lambda scene: scene.create_oddly(policy=10),
        OSError,
        errno.EINVAL,
        r"create netkit pair y0: Invalid argument \(kernel: Provided default xmit policy not supported\)",
    ),
    "no such policy of the peer": Refusal(
        lambda scene: scene.create_oddly(peer_policy=10),
        OSError,
        errno.EINVAL,
        r"create netkit pair y0: Invalid argument \(kernel: Provided default xmit policy not supported\)",
    ),
    "no such mode": Refusal(
        lambda scene: scene.create_oddly(mode=7),
        OSError,
        errno.ERANGE if kernel_release.is_at_least("6.13") else errno.EINVAL,
        r"create netkit pair y0: .*\(kernel: ",
    ),
    "a MAC address in L3": Refusal(
        lambda scene: scene.create_l3_with_mac(),
        OSError if has("macs") else NotSupportedError,  # which then refuses one in L2 by the same words
        errno.EOPNOTSUPP,
        r"(create netkit pair y0|for a netkit device): Operation not supported",
    ),
    "a policy through the peer": Refusal(
        lambda scene: scene.from_the_peer.set_policy("blackhole"),
        PermissionError,
        errno.EACCES,
        r"set the policy of nk0p: .*\(kernel: .*primary.*; this is the peer: open the pair again\)",
    ),
    "hooks through the peer": Refusal(
        lambda scene: scene.from_the_peer.programs("primary"),
        PermissionError,
        errno.EACCES,
        r"list the programs on nk0p \(primary\): .*hooks are reached through the primary; ifindex \d+ is the peer's",
    ),
    "the new name is taken": Refusal(
        lambda scene: scene.pair.primary.rename("x0"),
        FileExistsError,
        errno.EEXIST,
        r"rename nk0 to x0: .*there is a device x0 already",
    ),
    "the name is taken where it shall go": Refusal(
        lambda scene: scene.pair.primary.move(scene.elsewhere),
        FileExistsError,
        errno.EEXIST,
        r"move nk0 to another network namespace: .*there is a device nk0 already",
    ),
    "an address twice": Refusal(
        lambda scene: scene.pair.primary.add_address("10.42.0.1/24"),
        FileExistsError,
        errno.EEXIST,
        r"add address 10\.42\.0\.1/24 to nk0: .*the device has this address already",
    ),
    "an address that is not there": Refusal(
        lambda scene: scene.pair.primary.remove_address("10.42.0.9/24"),
        OSError,
        errno.EADDRNOTAVAIL,
        r"remove address 10\.42\.0\.9/24 from nk0: .*the device has no such address",
    ),
    "no such device": Refusal(
        lambda scene: NetkitPair.open("y0", scene.here),
        OSError,
        errno.ENODEV,
        r"look up device y0: No such device \(deleted, moved, or never in this network namespace\)",
    ),
    "no such number": Refusal(
        lambda scene: NetkitPair.open(4000, scene.here),
        OSError,
        errno.ENODEV,
        r"look up device number 4000: No such device",
    ),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS.keys())
def test_what_is_refused_is_told_and_changes_nothing(scene: Scene, refusal: Refusal) -> None:
    before = scene.state()
    with pytest.raises(OSError, match=refusal.text) as caught:
        refusal.attempt(scene)
    assert (type(caught.value), caught.value.errno) == (refusal.type, refusal.number)
    assert scene.state() == before


class Feature(NamedTuple):
    """What only some kernels have."""

    options: dict[str, Any]
    name: str
    needs: str


FEATURES = [
    Feature({"headroom": 32}, "netkit attribute headroom", "6.14"),
    Feature({"tailroom": 8}, "netkit attribute tailroom", "6.14"),
    Feature({"headroom": 0}, "netkit attribute headroom", "6.14"),
    Feature({"single": True}, "single netkit devices", "7.1"),
    Feature({"single": True, "headroom": 32, "num_rx_queues": 2}, "single netkit devices", "7.1"),
]


def test_an_address_or_a_scrub_mode_is_taken_or_refused_by_name(scene: Scene) -> None:
    """Linux 6.8, of which Ubuntu 24.04's kernel is, has neither."""
    mac = "02:00:00:00:00:05"
    asked: list[tuple[str, dict[str, Any], str]] = [
        (
            "macs",
            {"mode": "l2", "peer_mac": mac},
            "a MAC address of one's own for a netkit device: .*needs Linux 6.10",
        ),
        ("scrub", {"scrub": "none"}, "netkit attribute scrub: .*needs Linux 6.13 or 6.12.4"),
    ]
    before = scene.state()
    for feature, options, text in asked:
        if has(feature):
            with scene.create("y0", **options) as pair:
                assert pair.scrub == "none"
                assert (pair.peer.mac == mac) == ("peer_mac" in options)
        else:
            with pytest.raises(NotSupportedError, match=text):
                scene.create("y0", **options)
    assert scene.state() == before


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: " ".join(feature.options))
def test_a_newer_feature_works_or_is_refused_by_name_and_leaves_nothing(scene: Scene, feature: Feature) -> None:
    options = dict(feature.options)
    before = scene.state()

    def make() -> NetkitPair | NetkitDevice:
        if options.pop("single", False):
            return NetkitDevice.create("y0", netns=scene.here, **options)
        return scene.create("y0", **options)

    if kernel_release.is_at_least(feature.needs):
        with make() as made:
            for key, value in options.items():
                assert getattr(made, key) == value
            assert "y0" in names(scene.here)
    else:
        pattern = rf"{feature.name}: Operation not supported \(needs Linux {feature.needs}"
        with pytest.raises(NotSupportedError, match=pattern) as caught:
            make()
        error = caught.value
        assert (error.feature, error.needs, error.running) == (feature.name, feature.needs, kernel_release.running())
        assert f"this kernel is {kernel_release.running()}" in str(error)
        assert error.errno == errno.EOPNOTSUPP
    assert scene.state() == before


@pytest.fixture
def obj() -> Iterator[BPFObject]:
    with load(VERDICTS) as loaded:
        yield loaded


def test_a_hook_tells_why_it_does_not_take_a_program(scene: Scene, obj: BPFObject) -> None:
    pair, programs = scene.pair, obj.programs
    with pair.attach(programs["first"], "peer") as link:
        held = pair.programs("peer")
        with pytest.raises(FileExistsError, match=r"'first' to nk0 \(peer\): .*is on this hook already"):
            pair.attach(programs["first"], "peer")
        with pytest.raises(FileNotFoundError, match=r"'third' to nk0 \(peer\): .*'second'.* is not on this hook"):
            pair.attach(programs["third"], "peer", before=programs["second"])
        with pytest.raises(OSError, match="ESTALE: expected revision 77, found 2") as caught:
            pair.attach(programs["second"], "peer", expected_revision=77)
        assert caught.value.errno == errno.ESTALE
        with pytest.raises(OSError, match="hooks take programs of the sections netkit") as caught:
            pair.attach(programs["of_another_type"], "peer")
        assert caught.value.errno == errno.EINVAL
        with pytest.raises(OSError, match=f"'first' from nk0 .*link {link.id} holds it: detach the link") as caught:
            pair.detach(programs["first"], "peer")
        assert caught.value.errno == errno.EBUSY
        with pytest.raises(FileNotFoundError, match="it is not on this hook"):
            pair.detach(programs["second"], "peer")
        assert pair.programs("peer") == held


def test_a_hook_takes_63_programs_and_tells_that_it_is_full(scene: Scene) -> None:
    with ExitStack() as stack, load(MANY) as many:
        for number in range(MOST):
            stack.enter_context(scene.pair.attach(many.programs[f"many{number}"], "primary"))
        assert len(scene.pair.programs("primary").programs) == MOST
        with pytest.raises(OSError, match="there are 63 programs on this hook, more do not fit") as caught:
            scene.pair.attach(many.programs["many63"], "primary")
        assert caught.value.errno == errno.ERANGE


def test_without_privilege_each_refusal_names_what_is_missing() -> None:
    with NetkitPair.create("nk-test-own") as pair, NetNS.create() as other:
        primary = pair.primary
        attempts: list[tuple[Callable[[], object], str, str]] = [
            (lambda: NetkitPair.create("y0"), "create netkit pair y0", "CAP_NET_ADMIN over"),
            (lambda: pair.set_policy("blackhole"), "set the policy of nk-test-own", "CAP_NET_ADMIN in"),
            (lambda: primary.down(), "set nk-test-own down", "CAP_NET_ADMIN in"),
            (lambda: primary.set_mtu(1300), "set the mtu of nk-test-own", "CAP_NET_ADMIN in"),
            (lambda: primary.rename("y0"), "rename nk-test-own to y0", "CAP_NET_ADMIN in"),
            (lambda: primary.add_address("10.0.0.1/24"), "add address 10.0.0.1/24 to nk-test-own", "CAP_NET_ADMIN in"),
            (lambda: pair.programs("peer"), "list the programs on nk-test-own (peer)", "CAP_BPF and CAP_NET_ADMIN"),
            (lambda: primary.move(other), "enter network namespace", "CAP_SYS_ADMIN"),
            (pair.delete, "delete nk-test-own", "CAP_NET_ADMIN in"),
        ]
        for attempt, operation, missing in attempts:
            text = unprivileged(attempt)
            assert text.startswith(f"PermissionError: [Errno 1] {operation}"), text
            assert f"needs {missing}" in text
        assert (primary.name, primary.is_up, primary.mtu, pair.policy) == ("nk-test-own", True, 1500, "forward")
        assert primary.netns == NetNS.current()
