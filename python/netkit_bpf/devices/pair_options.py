# SPDX-License-Identifier: MIT
"""Options of a new device: checks of the arguments before the kernel is asked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypedDict

from netkit_bpf._core import DeviceOptions as CoreDeviceOptions
from netkit_bpf._core import PairOptions as CorePairOptions
from netkit_bpf.devices.link_numbers import LINK_NUMBERS
from netkit_bpf.devices.owner import Owner
from netkit_bpf.enums import AddrGenMode, Mode, Policy, Scrub
from netkit_bpf.internal import kernel_release
from netkit_bpf.internal.arguments import check_device_name, expect, expect_in, expect_word

IFINDEX = range(1, 1 << 31)
_ROOM = range(65536)
_KERNELS = "kernel"  # as a MAC address: the kernel's choice
# The peer does not take these from the primary.
_EACH_ITS_OWN = {"alias", "ifindex", "mac"}


class DeviceOptions(TypedDict, total=False):
    """The attributes that ip-link(8) sets on a device of any kind.

    Attributes:
        alias: a text for people, at most 255 bytes; by default it tells `reap` which process made the device.
        group: number of the group.
        txqueuelen: packets that a queueing discipline may hold.
        num_tx_queues: transmit queues, 1 to 4096; from 7.1 on netkit devices have one.
        num_rx_queues: receive queues, 1 to 4096.
        gso_max_size: largest IPv6 segment that the stack hands down, in bytes, up to 524280.
        gso_max_segs: most wire packets in one segment, up to 65535.
        gro_max_size: largest IPv6 packet that receiving puts together, in bytes, up to 524280.
        gso_ipv4_max_size: as gso_max_size, for IPv4.
        gro_ipv4_max_size: as gro_max_size, for IPv4.
        addrgenmode: how the automatic IPv6 link-local address is made.
        ifindex: the device's number.
    """

    alias: str
    group: int
    txqueuelen: int
    num_tx_queues: int
    num_rx_queues: int
    gso_max_size: int
    gso_max_segs: int
    gro_max_size: int
    gso_ipv4_max_size: int
    gro_ipv4_max_size: int
    addrgenmode: AddrGenMode | str
    ifindex: int


class DeviceChanges(TypedDict, total=False):
    """The attributes that ip-link(8) changes on a device of any kind, as in `DeviceOptions`, with mtu and mac."""

    mtu: int
    mac: str
    alias: str
    group: int
    txqueuelen: int
    gso_max_size: int
    gso_max_segs: int
    gro_max_size: int
    gso_ipv4_max_size: int
    gro_ipv4_max_size: int
    addrgenmode: AddrGenMode | str


class PairOptions(DeviceOptions, total=False):
    """The same for both ends: what is not given for the peer is taken from the primary, except alias and ifindex."""

    peer_alias: str
    peer_group: int
    peer_txqueuelen: int
    peer_num_tx_queues: int
    peer_num_rx_queues: int
    peer_gso_max_size: int
    peer_gso_max_segs: int
    peer_gro_max_size: int
    peer_gso_ipv4_max_size: int
    peer_gro_ipv4_max_size: int
    peer_addrgenmode: AddrGenMode | str
    peer_ifindex: int


def check_pair_options(
    name: str,
    peer_name: str | None = None,
    *,
    mode: Mode | str = Mode.L3,
    policy: Policy | str = Policy.FORWARD,
    peer_policy: Policy | str = Policy.FORWARD,
    scrub: Scrub | str | None = None,
    peer_scrub: Scrub | str | None = None,
    headroom: int | None = None,
    tailroom: int | None = None,
    up: bool = True,
    ends: Mapping[str, object] = MappingProxyType({}),
    single: bool = False,
) -> CorePairOptions:
    """Check the arguments of `NetkitPair.create` but namespaces; `ends` has the keys of `PairOptions`, mtu and mac."""
    options = CorePairOptions()
    options.primary.name = check_device_name(name, "name")
    if not single:
        options.peer.name = _peer_name(name, peer_name)
    parsed_mode = expect_word(mode, Mode, "mode")
    options.mode = parsed_mode.number
    options.policy = expect_word(policy, Policy, "policy").number
    options.peer_policy = expect_word(peer_policy, Policy, "peer_policy").number
    if scrub is not None:
        options.scrub = expect_word(scrub, Scrub, "scrub").number
    if peer_scrub is not None:
        options.peer_scrub = expect_word(peer_scrub, Scrub, "peer_scrub").number
    options.headroom = _check_room(headroom, "headroom")
    options.tailroom = _check_room(tailroom, "tailroom")
    _fill_ends(options, ends, parsed_mode, single)
    if ends.get("alias") is None and ends.get("peer_alias") is None:
        options.primary.alias = Owner.current().alias
        if not single:
            options.peer.alias = options.primary.alias
    options.up = expect(up, bool, "up")
    return options


def _peer_name(name: str, peer_name: str | None) -> str:
    if peer_name is None:
        if len(name.encode()) >= 15:
            raise ValueError(f"name {name!r} leaves no room for a 'p' behind it: give peer_name")
        return name + "p"
    if check_device_name(peer_name, "peer_name") == name:
        raise ValueError(f"peer_name is {name!r} as well: the two ends need two names")
    return peer_name


def _unknown(option: str, allowed: set[str]) -> str:
    import difflib

    alike = difflib.get_close_matches(option, allowed, 1)
    hint = f"did you mean {alike[0]!r}?" if alike else f"there are {', '.join(sorted(allowed))}"
    return f"{option!r} is not an option here: {hint}"


def _fill_ends(options: CorePairOptions, ends: Mapping[str, object], mode: Mode, single: bool) -> None:
    allowed = {"mac", "mtu", *DeviceOptions.__annotations__}
    if not single:
        allowed |= {f"peer_{key}" for key in allowed}
    if unknown := ends.keys() - allowed:
        import inspect

        allowed |= inspect.signature(check_pair_options).parameters.keys() - {"ends", "single"}
        raise TypeError(_unknown(sorted(unknown)[0], allowed))
    given = {key: value for key, value in ends.items() if value is not None}
    if "peer_ifindex" in given and "ifindex" not in given:
        raise ValueError("peer_ifindex: the kernel takes it only together with ifindex")
    if not single:
        for key in {key for key in given if not key.startswith("peer_")} - _EACH_ITS_OWN:
            given.setdefault(f"peer_{key}", given[key])
    for key, value in given.items():
        end = options.peer if key.startswith("peer_") else options.primary
        fill_option(end, key.removeprefix("peer_"), value, key, mode)
    if mode is Mode.L2 and kernel_release.is_at_least("6.10"):  # which refuse one before: netkit_validate()
        for prefix, end in (("", options.primary), ("peer_", options.peer))[: 1 if single else 2]:
            end.mac = end.mac if f"{prefix}mac" in given else _random_mac()


def fill_option(end: CoreDeviceOptions, key: str, value: object, argument: str, mode: Mode | None = None) -> None:
    """Check one option of a new device and set it; `argument` is its name for the caller."""
    if key in LINK_NUMBERS:
        end.set_number(key, expect_in(value, LINK_NUMBERS[key].at_creation, argument))
    elif key == "ifindex":
        end.ifindex = expect_in(value, IFINDEX, argument)
    elif key == "mac" and mode is Mode.L3:
        raise ValueError(f"{argument}: an L3 device has no MAC address; one in l2 mode has")
    elif key == "mac" and value == _KERNELS:
        pass
    else:
        _fill_other(end, key, value, argument)


def checked_changes(given: Mapping[str, object]) -> CoreDeviceOptions:
    """Check the changes of a device; the keys are those of `DeviceChanges`."""
    options = CoreDeviceOptions()
    for key, value in given.items():
        if key not in DeviceChanges.__annotations__:
            raise TypeError(_unknown(key, set(DeviceChanges.__annotations__)))
        later = LINK_NUMBERS[key].later if key in LINK_NUMBERS else None
        if later is None:
            _fill_other(options, key, value, key)
        else:
            options.set_number(key, expect_in(value, later, key))
    return options


def _fill_other(end: CoreDeviceOptions, key: str, value: object, argument: str) -> None:
    if key == "alias":
        end.alias = _check_alias(value, argument)
    elif key == "addrgenmode":
        end.addrgenmode = expect_word(expect(value, str, argument), AddrGenMode, argument).number
    else:
        end.mac = _check_mac(value, argument)


def _check_room(value: int | None, argument: str) -> int | None:
    return None if value is None else expect_in(value, _ROOM, argument)


def _check_alias(alias: object, argument: str) -> str:
    checked = expect(alias, str, argument)
    if len(checked.encode()) > 255 or "\0" in checked:
        raise ValueError(f"{argument} must have at most 255 bytes and no NUL")
    return checked


def _random_mac() -> list[int]:
    """An address of the local kind, as the kernel's eth_random_addr() makes them.

    A device that is given its address when it is made keeps it: addr_assign_type is NET_ADDR_SET. One whose address the
    kernel chose is given another by systemd-udevd (MACAddressPolicy=persistent, systemd.link(5)) a moment later.
    """
    octets = list(os.urandom(6))
    octets[0] = octets[0] & 0xFE | 0x02
    return octets


def _check_mac(mac: object, argument: str) -> list[int]:
    text = expect(mac, str, argument)
    try:
        octets = list(bytes.fromhex(text.replace(":", "")))
    except ValueError:
        octets = []
    if len(octets) != 6 or text.count(":") != 5:
        raise ValueError(f"{argument} must be written as '02:00:00:00:00:01', not {text!r}")
    if octets[0] & 1 or not any(octets):
        raise ValueError(f"{argument} {text} is a group address or zero: a device needs one of its own")
    return octets
