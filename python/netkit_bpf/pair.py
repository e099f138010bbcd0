# SPDX-License-Identifier: MIT
"""netkit pairs: ip-link(8), drivers/net/netkit.c."""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
from types import TracebackType
from typing import TypeVar

from netkit_bpf import _core
from netkit_bpf.arguments import expect, expect_in
from netkit_bpf.device import Device
from netkit_bpf.enums import Mode, Policy, Scrub, Side, parse
from netkit_bpf.link import Anchor, AttachedProgram, HookPrograms, Link, Place
from netkit_bpf.netns import NetNS, find_netns
from netkit_bpf.program import Program

_NAME_MAX = 15  # IFNAMSIZ with its terminating zero is 16
_MTU = range(68, 65536)
_ROOM = range(65536)
_IFINDEX = range(1, 1 << 31)

_MODES = {Mode.L2: 0, Mode.L3: 1}
_POLICIES = {Policy.FORWARD: 0, Policy.BLACKHOLE: 2}
_SCRUBS = {Scrub.NONE: 0, Scrub.DEFAULT: 1}

_T = TypeVar("_T")


class NetkitPair:
    """A pair of netkit devices.

    Made by `create` or `open`. As a context manager, a pair that was created is deleted on exit, one that
    was opened is left. Any thread may use it.

    >>> with NetkitPair.create("nk0", mode="l2") as pair:  # doctest: +SKIP
    ...     print(pair.primary, pair.peer)
    """

    def __init__(self, primary: Device, peer: Device | None, *, owned: bool) -> None:
        """Not for callers: use `create` or `open`."""
        self._primary = primary
        self._peer = peer
        self._owned = owned

    @classmethod
    def create(
        cls,
        name: str = "nk0",
        *,
        peer_name: str | None = None,
        mode: Mode | str = Mode.L3,
        policy: Policy | str = Policy.FORWARD,
        peer_policy: Policy | str = Policy.FORWARD,
        scrub: Scrub | str | None = None,
        peer_scrub: Scrub | str | None = None,
        headroom: int | None = None,
        tailroom: int | None = None,
        mtu: int | None = None,
        peer_mtu: int | None = None,
        mac: str | None = None,
        peer_mac: str | None = None,
        netns: NetNS | None = None,
        peer_netns: NetNS | None = None,
        up: bool = True,
    ) -> NetkitPair:
        """Make a pair. On any failure nothing is left behind and nothing that was there is touched.

        In L3 mode the ends get no automatic IPv6 link-local address, as both would get the same one.

        Args:
            name: of the primary, 1 to 15 bytes.
            peer_name: of the peer; the primary's name with a "p" behind it if not given.
            mode: "l2" or "l3".
            policy: "forward" or "blackhole": what the primary's packets meet while no program is attached.
            peer_policy: the same for the peer's.
            scrub: "none" or "default": whether packets lose mark and priority on their way from the
                primary into another namespace. Not given: "none" where the kernel can choose (6.13 or
                6.12.4), "default" before.
            peer_scrub: the same for the peer's packets.
            headroom: bytes to reserve before each packet, 0 to 65535 (6.14).
            tailroom: bytes to reserve behind each packet, 0 to 65535 (6.14).
            mtu: of the primary, 68 to 65535 bytes.
            peer_mtu: of the peer; the primary's if not given.
            mac: of the primary, "02:00:00:00:00:01"; L2 only (6.10).
            peer_mac: of the peer.
            netns: where the primary shall live; the calling thread's namespace if not given.
            peer_netns: where the peer shall live; the primary's if not given.
            up: whether both ends are set up.

        Raises:
            ValueError: an argument is not possible, whatever the kernel.
            FileExistsError: one of the names is taken.
            PermissionError: CAP_NET_ADMIN is missing.
            NotSupportedError: the kernel has no netkit devices, or ignored an attribute that was asked for.
        """
        spec = _core.PairSpec()
        spec.name = _check_name(name, "name")
        spec.peer_name = _peer_name(name, peer_name)
        parsed_mode = parse(Mode, mode, "mode")
        spec.mode = _MODES[parsed_mode]
        spec.policy = _POLICIES[parse(Policy, policy, "policy")]
        spec.peer_policy = _POLICIES[parse(Policy, peer_policy, "peer_policy")]
        if scrub is not None:
            spec.scrub = _SCRUBS[parse(Scrub, scrub, "scrub")]
        if peer_scrub is not None:
            spec.peer_scrub = _SCRUBS[parse(Scrub, peer_scrub, "peer_scrub")]
        spec.headroom = _check_range(headroom, _ROOM, "headroom")
        spec.tailroom = _check_range(tailroom, _ROOM, "tailroom")
        spec.mtu = _check_range(mtu, _MTU, "mtu")
        spec.peer_mtu = _check_range(peer_mtu, _MTU, "peer_mtu")
        spec.mac = _check_mac(mac, parsed_mode, "mac")
        spec.peer_mac = _check_mac(peer_mac, parsed_mode, "peer_mac")
        expect(up, bool, "up")
        netns = _netns(netns, "netns") or NetNS.current()
        peer_netns = _netns(peer_netns, "peer_netns") or netns
        spec.netns = netns.path
        spec.peer_netns = peer_netns.path
        spec.up = up
        primary, peer = _core.pair_create(spec)
        return cls(
            Device(primary.ifindex, primary.name, netns), Device(peer.ifindex, peer.name, peer_netns), owned=True
        )

    @classmethod
    def open(cls, name: str | int, netns: NetNS | None = None) -> NetkitPair:
        """Take a pair that is there, by the name or ifindex of either end.

        Args:
            name: of one end, or its ifindex.
            netns: where that end lives; the calling thread's namespace if not given.

        Raises:
            ValueError: the device is not a netkit device.
            OSError: ENODEV, there is no such device.
        """
        netns = _netns(netns, "netns") or NetNS.current()
        if isinstance(name, int):
            which: int | str = expect_in(name, _IFINDEX, "ifindex")
        else:
            which = _check_name(name, "name")
        info = _core.device_get(netns.path, which)
        if info.kind != "netkit":
            raise ValueError(f"{info.name} is a {info.kind or 'plain'} device, not a netkit device")
        near = Device(info.ifindex, info.name, netns)
        far = _other_end(info, netns)
        if info.primary:
            return cls(near, far, owned=False)
        if far is None:
            raise LookupError(
                f"{info.name} is the peer of a pair whose primary lives in a network namespace that has no name and"
                " no process here; open the pair by its primary, from inside that namespace"
            )
        return cls(far, near, owned=False)

    @property
    def primary(self) -> Device:
        """The primary: the end that was asked for, and through which programs are attached."""
        return self._primary

    @property
    def peer(self) -> Device:
        """The peer. LookupError if the pair was opened and the peer's namespace cannot be found."""
        if self._peer is None:
            raise LookupError(
                f"the peer of {self._primary!r} lives in a network namespace that has no name and no process here"
            )
        return self._peer

    @property
    def mode(self) -> Mode:
        """The mode, read from the kernel."""
        return _word(_MODES, self._read().mode)

    @property
    def policy(self) -> Policy:
        """The primary's policy, read from the kernel."""
        return _word(_POLICIES, self._read().policy)

    @property
    def peer_policy(self) -> Policy:
        """The peer's policy, read from the kernel."""
        return _word(_POLICIES, self._read().peer_policy)

    @property
    def scrub(self) -> Scrub:
        """What the primary's packets lose, read from the kernel; "default" on kernels that cannot choose."""
        return _word(_SCRUBS, self._read().scrub, Scrub.DEFAULT)

    @property
    def peer_scrub(self) -> Scrub:
        """What the peer's packets lose, read from the kernel."""
        return _word(_SCRUBS, self._read().peer_scrub, Scrub.DEFAULT)

    @property
    def headroom(self) -> int:
        """Bytes reserved before each packet, read from the kernel."""
        return self._read().headroom or 0

    @property
    def tailroom(self) -> int:
        """Bytes reserved behind each packet, read from the kernel."""
        return self._read().tailroom or 0

    def set_policy(self, policy: Policy | str, *, side: Side | str = Side.PRIMARY) -> None:
        """Change the policy of one side.

        It holds while no program is attached there. A monitor that is attached follows within 0.2 s.

        Args:
            policy: "forward" or "blackhole".
            side: "primary" or "peer": whose packets it is about.

        Raises:
            PermissionError: CAP_NET_ADMIN is missing.
        """
        number = _POLICIES[parse(Policy, policy, "policy")]
        of_peer = parse(Side, side, "side") is Side.PEER
        _core.pair_set_policy(self._primary.netns.path, self._primary.ifindex, number, of_peer)

    def attach(
        self,
        program: Program,
        side: Side | str,
        *,
        before: Anchor | None = None,
        after: Anchor | None = None,
        expected_revision: int | None = None,
    ) -> Link:
        """Attach a program to the hook that sees what one side sends; by default behind those that are there.

        The programs of a hook run in order until one says something else than NEXT. A side's policy holds only
        while no program is attached.

        Args:
            program: loaded, not on this hook yet. A hook takes 63.
            side: "primary" or "peer".
            before: attach in front of this one: a `Link`, a `Program`, an entry of `programs`, or "all".
            after: attach behind this one, likewise.
            expected_revision: attach only if this is the hook's revision now, as `programs` tells it.

        Raises:
            ValueError: an argument is not possible, whatever the kernel; the program is not loaded.
            FileExistsError: the program is on this hook already.
            FileNotFoundError: `before` or `after` is not on this hook.
            OSError: ESTALE, the revision is another one; ERANGE, the hook is full; ENODEV, the pair is gone;
                EINVAL, the program is none for a hook.
            PermissionError: CAP_NET_ADMIN is missing.

        >>> link = pair.attach(obj.programs["drop"], "peer", before="all")  # doctest: +SKIP
        """
        place = Place(self._primary, parse(Side, side, "side"))
        return place.attach(program, before=before, after=after, expected_revision=expected_revision)

    def programs(self, side: Side | str) -> HookPrograms:
        """The programs on a side's hook, in the order in which they run, and the hook's revision.

        Raises:
            OSError: ENODEV, the pair is gone.
            PermissionError: CAP_NET_ADMIN is missing.

        >>> revision, programs = pair.programs("peer")  # doctest: +SKIP
        """
        return Place(self._primary, parse(Side, side, "side")).programs()

    def detach(self, program: Program | AttachedProgram, side: Side | str) -> None:
        """Take a program off a side's hook that another tool attached there without a link.

        Raises:
            OSError: EBUSY, a link holds it, whose number the text names: detach that.
            FileNotFoundError: it is not on this hook.
        """
        Place(self._primary, parse(Side, side, "side")).detach(program)

    def add_link_local(self) -> tuple[ipaddress.IPv6Interface, ipaddress.IPv6Interface]:
        """Give each end a link-local address with a random interface identifier, usable at once.

        The identifiers come from the system's secure source (RFC 7217 tells why they should be opaque).

        Returns:
            The addresses of the primary and of the peer, both /64. On any failure neither is added.

        Raises:
            PermissionError: CAP_NET_ADMIN is missing, or IPv6 is disabled on a device.
        """
        primary, peer = _random_link_local(), _random_link_local()
        self.primary.add_address(primary)
        try:
            self.peer.add_address(peer)
        except BaseException:
            self.primary.remove_address(primary)
            raise
        return primary, peer

    def delete(self) -> None:
        """Delete both ends. Idempotent: a pair that is gone already is no error."""
        # Either of them says that its namespace is gone, and the pair with it.
        with contextlib.suppress(FileNotFoundError, ValueError):
            _core.device_delete(self._primary.netns.path, self._primary.ifindex)

    def _read(self) -> _core.DeviceInfo:
        return _core.device_get(self._primary.netns.path, self._primary.ifindex)

    def __enter__(self) -> NetkitPair:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._owned:
            self.delete()

    def __repr__(self) -> str:
        return f"<NetkitPair {self._primary!r} {self._peer!r}>"


def _check_name(name: str, argument: str) -> str:
    """Refuse what the kernel's dev_valid_name() refuses, and patterns, which name no device."""
    if not expect(name, str, argument):
        raise ValueError(f"{argument} is empty: a device needs a name")
    if len(name.encode()) > _NAME_MAX:
        raise ValueError(f"{argument} {name!r} has {len(name.encode())} bytes, a device name at most {_NAME_MAX}")
    if name in {".", "..", "all", "default"} or any(c in "/:%\0" or c.isspace() for c in name):
        raise ValueError(
            f"{argument} {name!r} must not contain '/', ':', '%', NUL or white space,"
            " nor be '.', '..', 'all' or 'default'"
        )
    return name


def _peer_name(name: str, peer_name: str | None) -> str:
    if peer_name is None:
        if len(name.encode()) >= _NAME_MAX:
            raise ValueError(f"name {name!r} leaves no room for a 'p' behind it: give peer_name")
        return name + "p"
    if _check_name(peer_name, "peer_name") == name:
        raise ValueError(f"peer_name is {name!r} as well: the two ends need two names")
    return peer_name


def _check_range(value: int | None, allowed: range, argument: str) -> int | None:
    return None if value is None else expect_in(value, allowed, argument)


def _netns(netns: NetNS | None, argument: str) -> NetNS | None:
    return (
        None if netns is None else expect(netns, NetNS, argument, "NetNS.open() takes a name, a path or a process id")
    )


def _check_mac(mac: str | None, mode: Mode, argument: str) -> list[int] | None:
    if mac is None:
        return None
    if mode is Mode.L3:
        raise ValueError(f"{argument}: an L3 device has no MAC address; use mode='l2'")
    expect(mac, str, argument)
    try:
        octets = list(bytes.fromhex(mac.replace(":", "")))
    except ValueError:
        octets = []
    if len(octets) != 6 or mac.count(":") != 5:
        raise ValueError(f"{argument} must be written as '02:00:00:00:00:01', not {mac!r}")
    if octets[0] & 1 or not any(octets):
        raise ValueError(f"{argument} {mac} is a group address or zero: a device needs one of its own")
    return octets


def _word(numbers: dict[_T, int], number: int | None, missing: _T | None = None) -> _T:
    """The word for the kernel's number."""
    for word, known in numbers.items():
        if known == number:
            return word
    if number is None and missing is not None:
        return missing
    raise ValueError(f"the kernel says {number}, which is none of {', '.join(str(word) for word in numbers)}")


def _other_end(info: _core.DeviceInfo, netns: NetNS) -> Device | None:
    if info.link_netnsid is not None:
        found = find_netns(netns, info.link_netnsid)
        if found is None:
            return None
        netns = found
    other = _core.device_get(netns.path, info.link)
    return Device(other.ifindex, other.name, netns)


def _random_link_local() -> ipaddress.IPv6Interface:
    while True:
        identifier = secrets.randbits(64)
        # Zero is the subnet-router anycast address; the others are reserved (RFC 5453).
        if identifier and identifier >> 8 != 0xFDFFFFFFFFFFFF:
            return ipaddress.IPv6Interface(((0xFE80 << 112) | identifier, 64))
