# SPDX-License-Identifier: MIT
"""Network devices: rtnetlink(7), ip-link(8), ip-address(8), ip-route(8)."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from netkit_bpf._core import (
    DeviceInfo,
    Namespace,
    NetlinkSocket,
    Subscription,
    address_add,
    address_list,
    address_remove,
    device_change,
    device_delete,
    device_find,
    device_get,
    device_move,
    device_rename,
    device_set_up,
    netns_id,
    route_add,
    route_list,
    route_remove,
)
from netkit_bpf.bpf.attached import AttachedProgram, HookPrograms
from netkit_bpf.bpf.hook import Anchor, Hook, Link
from netkit_bpf.bpf.program import Program
from netkit_bpf.devices.identity import Identity
from netkit_bpf.devices.link_numbers import Number
from netkit_bpf.devices.netns import NetNS, expect_netns, find_netns
from netkit_bpf.devices.owner import Owner
from netkit_bpf.devices.pair_options import IFINDEX, DeviceChanges, checked_changes
from netkit_bpf.devices.ready import wait_until_ready, why_not_ready
from netkit_bpf.devices.route import Address, Network, Route, parse_route
from netkit_bpf.devices.statistics import Statistics
from netkit_bpf.enums import AddrGenMode, Direction, Rank
from netkit_bpf.internal.arguments import (
    check_device_name,
    check_known_name,
    expect,
    expect_in,
    expect_timeout,
    expect_word,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

_IFF_UP = 0x01
_IFA_F_NODAD = 0x02

_D = TypeVar("_D", bound="Device")
Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


class Device:
    """One network device in one namespace. Its properties are read from the kernel at each access.

    The ends of a `NetkitPair` are devices; `open` opens any other. Any thread may use it. It follows the device when it
    is renamed or moved through this object. Once the device is gone, every access raises an OSError with errno ENODEV
    that names its last known name; changes raise PermissionError if CAP_NET_ADMIN is missing.

    >>> pair.peer.add_address("fd00::2/64")  # doctest: +SKIP
    """

    mtu = Number()
    txqueuelen = Number()
    group = Number()
    num_tx_queues = Number()
    num_rx_queues = Number()
    gso_max_segs = Number()
    gso_max_size = Number()
    gro_max_size = Number()
    gso_ipv4_max_size = Number()
    gro_ipv4_max_size = Number()

    def __init__(self, ifindex: int, name: str, netns: NetNS) -> None:
        self._place = (netns, ifindex)  # together: another thread may move it
        self._known_name = name
        self._identity = Identity()
        self._opposite: weakref.ref[Device] | None = None  # of a pair; weak, as cycles wait for the collector
        self._keeper: weakref.WeakMethod[Callable[[Device], None]] | None = None  # a lab's, to call when it was set up

    @classmethod
    def _of(cls: type[_D], info: DeviceInfo, netns: NetNS) -> _D:
        made = cls(info.ifindex, info.name, netns)
        made._identity.is_of(info)
        return made

    @classmethod
    def open(cls, name: str | int, netns: NetNS | None = None) -> Device:
        """Open a device of any kind by its name or ifindex.

        Args:
            name: the name, an alternative name (ip-link(8), property), or the number.
            netns: where it lives; the calling thread's namespace if not given.

        Raises:
            OSError: ENODEV, there is no such device.

        >>> Device.open("lo", ns).up()  # doctest: +SKIP
        """
        netns = expect_netns(netns, "netns")
        return cls._of(find_device(name, netns), netns)

    @property
    def ifindex(self) -> int:
        """The device's number in its namespace."""
        return self._place[1]

    @property
    def netns(self) -> NetNS:
        """The namespace that the device lives in."""
        return self._place[0]

    @property
    def name(self) -> str:
        """The device's name."""
        return self._read().name

    @property
    def kind(self) -> str:
        """What kind of device it is, as ip-link(8) says: "netkit", "veth"; empty for loopback and hardware."""
        return self._read().kind

    @property
    def alias(self) -> str:
        """The alias, a text for people; empty if it was never set."""
        return self._read().alias

    @property
    def mac(self) -> str:
        """The MAC address as "02:00:00:00:00:01"; all zero on an L3 device."""
        return self._read().mac.hex(":")

    @property
    def is_up(self) -> bool:
        """Whether the device is administratively up."""
        return bool(self._read().flags & _IFF_UP)

    @property
    def addrgenmode(self) -> AddrGenMode:
        """How the kernel makes the device's IPv6 link-local address; "none" where there is no IPv6."""
        return AddrGenMode.from_number(self._read().addrgenmode, AddrGenMode.NONE)

    @property
    def statistics(self) -> Statistics:
        """What the device has counted since it was made."""
        counted = self._read().statistics[: len(Statistics._fields)]
        return Statistics(*counted, *[0] * (len(Statistics._fields) - len(counted)))

    @property
    def addresses(self) -> list[Interface]:
        """The IPv4 and IPv6 addresses with their prefix lengths."""
        found = address_list(*self._verified())
        return [ipaddress.ip_interface((raw, prefix_len)) for raw, prefix_len, _ in found]

    @property
    def routes(self) -> list[Route]:
        """The routes of the main table that lead over this device, IPv4 first."""
        found = route_list(*self._verified())
        return [
            Route(ipaddress.ip_network((dst, prefix_len)), None if via is None else ipaddress.ip_address(via))
            for dst, prefix_len, via in found
        ]

    def up(self) -> None:
        """Set the device up. If the other end of its pair is up, both carry packets when this returns.

        A device of a `Lab` that was down gets back the addresses and routes that the lab gave it.

        Raises:
            OSError: what the lab gave it cannot be given once more, such as EACCES for an IPv6 address where IPv6 was
                disabled meanwhile. The device is up.
        """
        is_lab_restoring = self._keeper is not None and not self.is_up
        device_set_up(*self._verified(), True)
        if self._opposite is not None and (opposite := self._opposite()) is not None:
            with contextlib.suppress(OSError):  # its carrier has come too; that it is gone is its own matter
                opposite._read()
        if is_lab_restoring and self._keeper is not None and (keep := self._keeper()) is not None:
            keep(self)

    def down(self) -> None:
        """Set the device down, which also removes its routes and its IPv6 addresses (ip-sysctl: keep_addr_on_down).

        `up` gives back what a `Lab` gave one of its own, and nothing else.
        """
        device_set_up(*self._verified(), False)

    def wait_ready(self, timeout: float | None = None) -> None:
        """Wait until the device carries packets and all its addresses may be used.

        The device, and the other end of a pair, must be up, and duplicate address detection must have finished for its
        IPv6 addresses (see `add_address`, nodad). Ctrl-C ends the wait.

        Args:
            timeout: seconds; None waits for ever.

        Raises:
            TimeoutError: it is not ready; the text says why.
            OSError: EADDRINUSE, another device has the address; ENODEV, the device is gone.

        >>> pair.peer.wait_ready(timeout=5)  # doctest: +SKIP
        """
        timeout = expect_timeout(timeout)  # before anything is opened
        changes = Subscription(self.netns._open())
        wait_until_ready(lambda: why_not_ready(self._read(), self._target()), changes, self._known_name, timeout)

    def set(self, **changes: Unpack[DeviceChanges]) -> None:
        """Change attributes as ip-link(8) does, all in one message.

        The kernel applies them one after the other: if it refuses one, those before it stay changed.

        Args:
            changes: mtu, txqueuelen, group, gso_max_size, gso_max_segs, gro_max_size, gso_ipv4_max_size,
                gro_ipv4_max_size, mac, alias and addrgenmode. What is possible depends on the kind of device; the mtu
                of an end of a pair is 68 to 65535 bytes, and each end has its own.

        Raises:
            ValueError: a value is not possible on any device.
            OSError: the kernel refused a value; the text says why.
            PermissionError: CAP_NET_ADMIN is missing.

        >>> pair.primary.set(mtu=9000, txqueuelen=500)  # doctest: +SKIP
        """
        if not changes:
            raise TypeError("say what to change: set(mtu=9000)")
        options = checked_changes(changes)
        device_change(*self._verified(), options, f"set the {' and '.join(changes)} of {self._known_name}")

    def set_mtu(self, mtu: int) -> None:
        """Set the MTU, in bytes: `set(mtu=...)`."""
        self.set(mtu=mtu)

    def set_group(self, group: int) -> None:
        """Put the device into a group, by number: `set(group=...)`."""
        self.set(group=group)

    def set_alias(self, alias: str) -> None:
        """Set the alias, a text for people of at most 255 bytes; an empty one removes it: `set(alias=...)`."""
        self.set(alias=alias)

    def rename(self, name: str) -> None:
        """Rename the device; programs on its hooks stay.

        Args:
            name: 1 to 15 bytes.

        Raises:
            FileExistsError: the name is taken.
        """
        device_rename(*self._verified(), check_device_name(name, "name"))
        self._known_name = name

    def move(self, netns: NetNS) -> None:
        """Move the device into another namespace; programs on its hooks stay.

        It arrives down, without addresses and routes, and its ifindex may change. This object and its pair follow it.

        Raises:
            FileExistsError: there is a device of that name.
            PermissionError: CAP_NET_ADMIN is missing in one of the namespaces.
        """
        netns = expect_netns(netns, "netns")
        moved = device_move(*self._verified(), netns._netlink(), netns._open())
        self._identity.forget_other_end()
        if self._opposite is not None and (opposite := self._opposite()) is not None:
            opposite._identity.forget_other_end()
        self._place = (netns, moved.ifindex)
        self._known_name = moved.name

    def add_address(self, cidr: str | Interface, *, peer: str | Address | None = None, nodad: bool = True) -> None:
        """Add an address.

        Args:
            cidr: the address with its prefix length, "fd00::1/64" or "10.0.0.1/24".
            peer: the address of the other end of a point-to-point link; the prefix length is then the peer's.
            nodad: make an IPv6 address usable at once: on a device that is up, packets to it are delivered when this
                returns. With False the kernel does duplicate address detection first, which takes about a second. On
                netkit devices it does none, unless net.ipv6.conf.NAME.accept_dad says so.

        Raises:
            ValueError: `cidr` or `peer` is not an address, or their families differ.
            FileExistsError: the device has it already.
        """
        interface = _check_address(cidr)
        flags = _IFA_F_NODAD if expect(nodad, bool, "nodad") and interface.version == 6 else 0
        other = _check_peer(peer, interface)
        address_add(*self._verified(), interface.ip.packed, interface.network.prefixlen, flags, other)

    def remove_address(self, cidr: str | Interface, *, peer: str | Address | None = None) -> None:
        """Remove an address.

        The kernel removes the secondary addresses of an IPv4 network with its first one, unless
        net.ipv4.conf.NAME.promote_secondaries says otherwise.

        Args:
            cidr: as `addresses` lists it.
            peer: distinguishes addresses that differ in nothing else; if not given, one without a peer is removed
                first.

        Raises:
            OSError: EADDRNOTAVAIL, the device does not have it.
        """
        interface = _check_address(cidr)
        other = _check_peer(peer, interface)
        address_remove(*self._verified(), interface.ip.packed, interface.network.prefixlen, 0, other)

    def add_route(self, dst: str | Network, *, via: str | Address | None = None) -> None:
        """Add a route over this device to the main table.

        Args:
            dst: the destination, "fd01::/64" or "10.1.0.0/16"; "default" is ::/0 with an IPv6 gateway, else 0.0.0.0/0.
            via: the gateway; if not given, the destination is reached directly. An IPv4 destination may have an
                IPv6 gateway (RFC 5549).

        Raises:
            ValueError: `dst` is not a network or `via` is not an address.
            FileExistsError: the route exists already.
            OSError: ENETDOWN, the device is down; EHOSTUNREACH or ENETUNREACH, the gateway is not on a network of the
                device.

        >>> pair.peer.add_route("default", via="fd00::1")  # doctest: +SKIP
        """
        netlink, device = self._verified()
        try:
            route_add(netlink, device, *_packed(parse_route(dst, via)))
        except OSError as error:
            if error.errno not in (errno.ENETUNREACH, errno.EHOSTUNREACH) or self.is_up:
                raise
            # The kernel looks for the gateway first, and its network went when the device was set down.
            operation = str(error.strerror).partition(": ")[0]
            raise OSError(errno.ENETDOWN, f"{operation}: Network is down (the device is down)") from None

    def remove_route(self, dst: str | Network, *, via: str | Address | None = None) -> None:
        """Remove a route over this device; ProcessLookupError (ESRCH) if there is none."""
        netlink, device = self._verified()
        route_remove(netlink, device, *_packed(parse_route(dst, via)))

    def hook(self, direction: Direction | str) -> Hook:
        """A tcx hook of the device (6.6): "ingress" sees what it receives, "egress" what it sends.

        >>> device.hook("ingress").programs  # doctest: +SKIP
        """
        return Hook(self, expect_word(direction, Direction, "direction"))

    def attach(
        self,
        program: Program,
        direction: Direction | str,
        *,
        rank: Rank | str | None = None,
        before: Anchor | None = None,
        after: Anchor | None = None,
        expected_revision: int | None = None,
    ) -> Link:
        """Attach a program to a tcx hook: short for `hook(direction).attach(program, …)`.

        >>> link = device.attach(program, "ingress")  # doctest: +SKIP
        """
        hook = self.hook(direction)
        return hook.attach(program, rank=rank, before=before, after=after, expected_revision=expected_revision)

    def programs(self, direction: Direction | str) -> HookPrograms:
        """The programs on a tcx hook, in the order in which they run, and the hook's revision."""
        return self.hook(direction).query()

    def detach(self, program: Program | AttachedProgram, direction: Direction | str) -> None:
        """Detach a program that no link holds from a tcx hook; errors are those of `Hook.detach`."""
        self.hook(direction).detach(program)

    def _target(self) -> tuple[NetlinkSocket, tuple[int, str]]:
        """What the extension needs to reach the device."""
        netns, ifindex = self._place
        return netns._netlink(), (ifindex, self._known_name)

    def _verified(self) -> tuple[NetlinkSocket, tuple[int, str]]:
        """The same, after checking that the number still belongs to this device; if not, ENODEV is raised."""
        try:
            info = device_get(*self._target())
        except OSError:
            return self._target()  # the next request gives a better error
        self._check(info)
        return self._target()

    def _check(self, info: DeviceInfo) -> DeviceInfo:
        if not self._identity.is_of(info):
            raise OSError(
                errno.ENODEV,
                f"look up device {self._known_name}: it was deleted, and its number {info.ifindex} belongs to"
                f" another device now, {info.name}",
            )
        self._known_name = info.name
        return info

    def _reach(self) -> tuple[Namespace, str, int, str]:
        """What a `Hook` needs: the namespace, and the current name, number and kind of the device there."""
        netns, ifindex = self._place
        info = self._check(device_get(netns._netlink(), (ifindex, self._known_name)))
        return netns._open(), info.name, info.ifindex, info.kind

    def _ref(self) -> tuple[int, str]:
        return self.ifindex, self._known_name

    def _read(self) -> DeviceInfo:
        return self._check(device_get(*self._target()))

    def _number(self, name: str) -> int:
        return self._read().number(name) or 0

    def __repr__(self) -> str:
        return f"<Device {self._known_name} ifindex={self.ifindex} in {self.netns._label}{self._state()}>"

    def _repr_html_(self) -> str | None:
        from netkit_bpf.internal.html import facts, show

        def build() -> list[object]:
            count = self.statistics
            is_ours = self.alias.startswith("netkit-bpf ")  # says who made it, for `reap`
            return [
                facts(
                    ifindex=self.ifindex,
                    kind=self.kind or None,
                    up="yes" if self.is_up else "no",
                    mtu=self.mtu,
                    MAC=self.mac or None,
                    alias=None if is_ours else self.alias or None,
                    addresses=", ".join(map(str, self.addresses)) or "none",
                    received=f"{count.rx_packets:,} packets, {count.rx_bytes:,} bytes, {count.rx_dropped:,} dropped",
                    sent=f"{count.tx_packets:,} packets, {count.tx_bytes:,} bytes, {count.tx_dropped:,} dropped",
                )
            ]

        return show(self, build)

    def _state(self) -> str:
        """The end of the repr: empty if the device exists, or if that is unknown."""
        try:
            self._read()
        except OSError as error:
            return " deleted or moved" if error.errno == errno.ENODEV else ""
        except ValueError:
            return ""  # the repr of the namespace says so
        return ""


def delete_device(device: Device) -> bool:
    """Delete a device; False if it or its namespace is gone already."""
    try:
        return device_delete(*device._verified())
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return False  # another device has its number
    except ValueError:
        if device.netns._let_go:  # the device may still exist
            raise
        return False


def is_left(device: Device) -> bool:
    """Whether a device made here still exists, has the alias that says so, and outlives the object of its namespace."""
    if device.netns._ends_with_its_object():
        return False
    try:
        return Owner.of(device._read().alias) == Owner.current()
    except (OSError, ValueError):
        return False  # it, or its namespace, is gone


def find_device(which: str | int, netns: NetNS) -> DeviceInfo:
    """Look a device up by its name, an alternative name or its ifindex."""
    if isinstance(which, int):
        number = expect_in(which, IFINDEX, "ifindex")
        return device_get(netns._netlink(), (number, f"number {number}"))
    return device_find(netns._netlink(), check_known_name(which, "name"))


def other_end(info: DeviceInfo, netns: NetNS) -> Device | None:
    """The device at the other end of one in `netns`; None where its namespace cannot be found.

    The other end is confirmed in its own namespace: between two requests its number can be given to another device.
    """
    if info.link_netnsid is None:
        elsewhere = netns
        home = None
    else:
        netlink = netns._netlink()
        found = find_netns(lambda space: netns_id(netlink, space) == info.link_netnsid)
        if found is None:
            return None
        elsewhere = found
        home = netns_id(elsewhere._netlink(), netns._open())
    other = find_device(info.link, elsewhere)
    if (other.kind, other.link, other.link_netnsid) != (info.kind, info.ifindex, home):
        raise OSError(errno.ENODEV, f"look up the other end of {info.name}: it was deleted meanwhile")
    return Device._of(other, elsewhere)


def _packed(route: Route) -> tuple[bytes, int, bytes | None]:
    return route.dst.network_address.packed, route.dst.prefixlen, None if route.via is None else route.via.packed


def _check_address(cidr: str | Interface) -> Interface:
    if isinstance(cidr, (ipaddress.IPv4Interface, ipaddress.IPv6Interface)):
        return cidr
    if "/" not in expect(cidr, str, "address"):
        raise ValueError(f"{cidr!r} has no prefix length: write it as in 'fd00::1/64'")
    return ipaddress.ip_interface(cidr)


def _check_peer(peer: str | Address | None, interface: Interface) -> bytes | None:
    if peer is None:
        return None
    if not isinstance(peer, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
        peer = ipaddress.ip_address(expect(peer, str, "peer"))
    if peer.version != interface.version:
        raise ValueError(f"peer {peer}: {interface} has another family")
    return peer.packed
