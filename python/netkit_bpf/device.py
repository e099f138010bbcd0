# SPDX-License-Identifier: MIT
"""Network devices: rtnetlink(7), ip-link(8), ip-address(8)."""

from __future__ import annotations

import ipaddress
import socket

from netkit_bpf import _core
from netkit_bpf.arguments import expect
from netkit_bpf.enums import Direction, parse
from netkit_bpf.link import Anchor, AttachedProgram, HookPrograms, Link, Place
from netkit_bpf.netns import NetNS
from netkit_bpf.program import Program

_IFF_UP = 1

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


class Device:
    """One network device in one namespace. What it tells is read from the kernel at each access.

    Any thread may use it. Once the device is gone, every access raises an OSError with errno ENODEV; changes
    raise PermissionError where CAP_NET_ADMIN is missing.

    >>> pair.peer.add_address("fd00::2/64")  # doctest: +SKIP
    """

    def __init__(self, ifindex: int, name: str, netns: NetNS) -> None:
        """Not for callers: devices are the ends of a `NetkitPair`."""
        self._ifindex = ifindex
        self._known_name = name
        self._netns = netns

    @property
    def ifindex(self) -> int:
        """The device's number in its namespace."""
        return self._ifindex

    @property
    def netns(self) -> NetNS:
        """The namespace that the device lives in."""
        return self._netns

    @property
    def name(self) -> str:
        """The device's name."""
        return self._read().name

    @property
    def mtu(self) -> int:
        """The largest packet, in bytes without the Ethernet header."""
        return self._read().mtu

    @property
    def mac(self) -> str:
        """The MAC address as "02:00:00:00:00:01"; all zero on an L3 device."""
        return self._read().mac.hex(":")

    @property
    def is_up(self) -> bool:
        """Whether the device is administratively up."""
        return bool(self._read().flags & _IFF_UP)

    @property
    def addresses(self) -> list[Interface]:
        """The IPv4 and IPv6 addresses with their prefix lengths."""
        found = _core.device_addresses(self._netns.path, self._ifindex)
        return [ipaddress.ip_interface((raw, prefix_len)) for raw, prefix_len in found]

    def up(self) -> None:
        """Set the device up."""
        _core.device_set_up(self._netns.path, self._ifindex, True)

    def down(self) -> None:
        """Set the device down; its IPv6 addresses are gone with that (ip-sysctl: keep_addr_on_down)."""
        _core.device_set_up(self._netns.path, self._ifindex, False)

    def add_address(self, cidr: str | Interface, *, nodad: bool = True) -> None:
        """Add an address.

        Args:
            cidr: the address with its prefix length, "fd00::1/64" or "10.0.0.1/24".
            nodad: an IPv6 address is usable at once; False lets the kernel look for duplicates first, which
                takes about a second and needs L2 mode.

        Raises:
            ValueError: `cidr` is no address.
            FileExistsError: the device has it already.
        """
        interface = _parse(cidr)
        _core.device_add_address(*self._address_arguments(interface, nodad))

    def remove_address(self, cidr: str | Interface) -> None:
        """Remove an address; OSError (EADDRNOTAVAIL) if the device does not have it."""
        _core.device_remove_address(*self._address_arguments(_parse(cidr), False))

    def attach(
        self,
        program: Program,
        direction: Direction | str,
        *,
        before: Anchor | None = None,
        after: Anchor | None = None,
        expected_revision: int | None = None,
    ) -> Link:
        """Attach a program to a tcx hook; arguments and errors are those of `NetkitPair.attach`.

        Args:
            direction: "ingress", what the device receives, or "egress", what it sends.

        Raises:
            NotSupportedError: the kernel is older than 6.6.

        >>> link = device.attach(program, "ingress")  # doctest: +SKIP
        """
        place = Place(self, parse(Direction, direction, "direction"))
        return place.attach(program, before=before, after=after, expected_revision=expected_revision)

    def programs(self, direction: Direction | str) -> HookPrograms:
        """The programs on a tcx hook, in the order in which they run, and the hook's revision."""
        return Place(self, parse(Direction, direction, "direction")).programs()

    def detach(self, program: Program | AttachedProgram, direction: Direction | str) -> None:
        """Take a program off a tcx hook that no link holds; errors are those of `NetkitPair.detach`."""
        Place(self, parse(Direction, direction, "direction")).detach(program)

    def _address_arguments(self, interface: Interface, nodad: bool) -> tuple[str, int, int, bytes, int, bool, str]:
        family = socket.AF_INET6 if interface.version == 6 else socket.AF_INET
        prefix_len = interface.network.prefixlen
        return self._netns.path, self._ifindex, family, interface.ip.packed, prefix_len, nodad, str(interface)

    def _read(self) -> _core.DeviceInfo:
        return _core.device_get(self._netns.path, self._ifindex)

    def __repr__(self) -> str:
        return f"<Device {self._known_name} ifindex={self._ifindex}>"


def _parse(cidr: str | Interface) -> Interface:
    if isinstance(cidr, (ipaddress.IPv4Interface, ipaddress.IPv6Interface)):
        return cidr
    if "/" not in expect(cidr, str, "address"):
        raise ValueError(f"{cidr!r} has no prefix length: write it as in 'fd00::1/64'")
    return ipaddress.ip_interface(cidr)
