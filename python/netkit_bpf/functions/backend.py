# SPDX-License-Identifier: MIT
"""Backends of a load balancer: who they are, whether they can be, what they got."""

from __future__ import annotations

import contextlib
import struct
import warnings
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal, NamedTuple

from netkit_bpf.devices.device import Device
from netkit_bpf.devices.pair import NetkitPair
from netkit_bpf.internal.arguments import expect, expect_in, users_level

Address = IPv4Address | IPv6Address
State = Literal["active", "draining", "removed"]
PORTS = range(1, 65536)


class Backend(NamedTuple):
    """Who takes connections: a pair, and the address and port of the service behind its peer.

    Attributes:
        pair: whose peer is in the backend's namespace.
        address: where the service listens; None for the only address of the peer that is of the balancer's family and
            not link-local. With direct return it is the virtual address.
        port: where the service listens; None for the balancer's.
    """

    pair: NetkitPair
    address: Address | str | None = None
    port: int | None = None


class BackendStats(NamedTuple):
    """A backend as it is now, and what it got until now. Packets are counted as hooks see them, before segmentation.

    Attributes:
        backend: with its address and port.
        name: of the pair's primary when it was added.
        weight: its part of the new connections, in proportion to the others'.
        state: "active"; "draining", which gets no new connections; "removed", which has some that are not over.
        share: its part of the Maglev table: from 0 to 1.
        open: connections that are not over. TCP's are over after FINs of both sides or a RST, or without a packet for
            two hours; UDP's without one for a minute.
        connections: how many it was chosen for.
        packets: from clients.
        bytes: of these, with their Ethernet headers.
        reply_packets: to clients.
        reply_bytes: of these.
    """

    backend: Backend
    name: str
    weight: int
    state: State
    share: float
    open: int
    connections: int
    packets: int
    bytes: int
    reply_packets: int
    reply_bytes: int


class Service(NamedTuple):
    """What all backends of a balancer are for.

    Attributes:
        clients: the clients' pair.
        vip: the virtual address.
        port: its port.
        is_dsr: whether backends answer as the virtual address themselves.
    """

    clients: NetkitPair
    vip: Address
    port: int
    is_dsr: bool

    def resolve(self, backend: NetkitPair | Backend) -> Backend:
        """Return the backend with its address and port; ValueError if it cannot be one."""
        if isinstance(backend, NetkitPair):
            backend = Backend(backend)
        pair, address, port = expect(backend, Backend, "backend", "a NetkitPair, or a Backend")
        expect(pair, NetkitPair, "backend.pair")
        name = pair.primary.name
        if is_same(pair, self.clients):
            raise ValueError(f"{name} is the clients' own pair: packets would come from the address that they go to")
        if pair.primary.netns != self.clients.primary.netns:
            raise ValueError(
                f"{name} and {self.clients.primary.name} are in two network namespaces: a packet is not redirected"
                " from one into another"
            )
        port = self.port if port is None else expect_in(port, PORTS, "backend.port")
        if self.is_dsr:
            if port != self.port or (address is not None and parse(address, "backend.address") != self.vip):
                raise ValueError("with direct return a backend has the balancer's own address and port: leave them out")
            self._warn_without_vip(pair)
            return Backend(pair, self.vip, port)
        found = self._address_of(pair) if address is None else parse(address, "backend.address")
        if found.version != self.vip.version:
            raise ValueError(f"backend.address must be of IPv{self.vip.version}, as the balancer's is, not {found}")
        return Backend(pair, found, port)

    def value_of(self, backend: Backend, generation: int) -> tuple[object, ...]:
        """Struct nk_lb_backend of <netkit_bpf/balancer.h>, without its last two fields."""
        assert isinstance(backend.address, (IPv4Address, IPv6Address))
        address, vip = backend.address.packed, self.vip.packed
        return (
            *(address.ljust(16, b"\0"), backend.pair.primary.ifindex, backend.port, generation),
            *(_difference(vip, address), _difference(address, vip)),
        )

    def _address_of(self, pair: NetkitPair) -> Address:
        version = self.vip.version
        here = [each.ip for each in pair.peer.addresses if each.version == version and not each.is_link_local]
        if len(here) != 1:
            has = f"has {len(here)} addresses" if here else "has no address"
            raise ValueError(f"{pair.peer.name} {has} of IPv{version}: say which, Backend(pair, address)")
        return here[0]

    def _warn_without_vip(self, pair: NetkitPair) -> None:
        with contextlib.suppress(OSError, LookupError):  # it cannot be looked at
            devices = [Device.open("lo", pair.peer.netns), pair.peer]
            if not any(self.vip == each.ip for device in devices for each in device.addresses):
                warnings.warn(
                    f"{self.vip} is an address of neither lo nor {pair.peer.name}: nobody may answer there",
                    stacklevel=users_level(),
                )


def macs(pair: NetkitPair) -> tuple[bytes, bytes]:
    """What packets to the peer say: the peer's MAC and the primary's. Both are zero in L3 mode."""
    primary = bytes.fromhex(pair.primary.mac.replace(":", ""))
    if not any(primary):  # and the peer may be where nobody can look
        return primary, primary
    return bytes.fromhex(pair.peer.mac.replace(":", "")), primary


def macs_now(pair: NetkitPair, known: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """The same, or those that were known if the peer is where nobody can look any more."""
    with contextlib.suppress(OSError, LookupError, ValueError):
        return macs(pair)
    return known


def is_same(pair: NetkitPair, other: NetkitPair) -> bool:
    """Whether two objects are about one pair."""
    one, two = pair.primary, other.primary
    return one is two or (one.ifindex == two.ifindex and one.netns == two.netns)


def parse(address: Address | str, argument: str) -> Address:
    """Return the address; ValueError if it is none, or has a scope."""
    if not isinstance(address, (IPv4Address, IPv6Address)):
        try:
            address = ip_address(expect(address, str, argument))
        except ValueError:
            raise ValueError(f"{argument} must be an address of IPv4 or IPv6, not {address!r}") from None
    if isinstance(address, IPv6Address) and address.scope_id:
        raise ValueError(f"{argument} must have no scope, as {address} has")
    return address


def parse_vip(vip: Address | str) -> Address:
    """Return the address; ValueError if no client can have a route to it."""
    address = parse(vip, "vip")
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    if mapped is not None:
        raise ValueError(f"vip must not be an IPv4 address that is written as one of IPv6: say {mapped}, not {address}")
    if address.is_unspecified or address.is_multicast or address.is_loopback or address.is_link_local:
        raise ValueError(f"vip must be an address to which clients can have a route, not {address}")
    return address


def _difference(old: bytes, new: bytes) -> int:
    """What the sum below an internet checksum becomes larger by as one address gives way to another (RFC 1624)."""
    total: int = sum(struct.unpack(f"={len(new) // 2}H", new))
    total += sum(0xFFFF ^ word for word in struct.unpack(f"={len(old) // 2}H", old))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
