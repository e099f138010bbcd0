# SPDX-License-Identifier: MIT
"""The programs of a load balancer, and where on a hook they stand: bpf/balancer.bpf.c."""

from __future__ import annotations

import contextlib
import os
import time

from netkit_bpf.bpf.attached import AttachedProgram
from netkit_bpf.bpf.hook import Hook, Link
from netkit_bpf.bpf.map import Map
from netkit_bpf.bpf.object import BPFObject
from netkit_bpf.bpf.program import Program
from netkit_bpf.bpf.shipped import program_file
from netkit_bpf.devices.pair import NetkitPair
from netkit_bpf.enums import Policy, Rank, Side
from netkit_bpf.functions.backend import Address

_WAYS = 8  # NK_LB_WAYS, <netkit_bpf/balancer.h>
_TICK = 5  # NK_LB_TICK
_UDP_IDLE, _TCP_IDLE = 60, 7200  # seconds; the latter is tcp_keepalive_time
_LINGER = 1  # second: a FIN that was lost is sent again by then
_MONOTONIC_COARSE = 6  # linux/time.h
_TRIES = 10  # of finding a place on a hook while others come and go


def _ticks(seconds: int) -> int:
    """The same in 2^NK_LB_TICK jiffies. A coarse clock goes on by one of these (KTIME_LOW_RES in linux/ktime.h)."""
    return round(seconds / time.clock_getres(_MONOTONIC_COARSE)) >> _TICK


def load_balancer(
    vip: Address,
    port: int,
    protocol: str = "tcp",
    mode: str = "nat",
    connections: int = 65536,
    *,
    clients: tuple[int, tuple[bytes, bytes]],
) -> BPFObject:
    """Load the programs, without backends: nothing is attached yet.

    Args:
        vip: the virtual address.
        port: the service's.
        protocol: "tcp" or "udp".
        mode: "nat" or "dsr".
        connections: for how many there is room.
        clients: where replies go: the ifindex of the clients' primary, and the peer's and the primary's MAC.
    """
    sets = 1 << max((connections + _WAYS - 1) // _WAYS - 1, 1).bit_length()
    obj = BPFObject.open(program_file("balancer"))
    with contextlib.ExitStack() as undo:
        undo.callback(obj.close)
        settings = {
            "vip": vip.packed.ljust(16, b"\0"),
            "vip_port": port,
            "is_ipv6": vip.version == 6,
            "is_tcp": protocol == "tcp",
            "is_dsr": mode == "dsr",
            "set_mask": sets - 1,
            "client_ifindex": clients[0],
            "client_macs": clients[1],
            "udp_idle": _ticks(_UDP_IDLE),
            "tcp_idle": _ticks(_TCP_IDLE),
            "linger": _ticks(_LINGER),
            "seed": int.from_bytes(os.urandom(8), "big"),
        }
        for name, value in settings.items():
            obj.variables[name].value = value
        obj.maps["connections"].max_entries = sets
        obj.maps["evictions"].max_entries = sets
        obj.load()
        undo.pop_all()
    return obj


def publish(obj: BPFObject, places: bytes) -> None:
    """Let a Maglev table be in force, of 16-bit places in native byte order: on return no program sees the last one."""
    with Map.create("array", max_entries=1, key_size=4, value_size=len(places), name="nk_ring") as table:
        table[0] = places
        obj.maps["ring"][0] = table


def _balancers(hook: Hook) -> list[AttachedProgram]:
    return [each for each in hook.programs if each.rank is Rank.BALANCER]


def attach(pair: NetkitPair, program: Program) -> Link:
    """Attach to what the peer sends, behind all others but balancers: the last one follows the policy."""
    hook = pair.hook(Side.PEER)
    tries = _TRIES
    while True:
        others = _balancers(hook)
        try:
            return hook.attach(program, rank=Rank.BALANCER, before=others[0] if others else None)
        except FileNotFoundError:  # another balancer ended meanwhile
            tries -= 1
            if not tries:
                raise


def is_left_to_nobody(pair: NetkitPair, link: Link) -> bool:
    """Whether what is not for a service is dropped: on a blackhole, where no firewall decides and nobody is behind."""
    if pair.peer_policy is not Policy.BLACKHOLE:
        return False
    programs = pair.hook(Side.PEER).programs
    is_last = bool(programs) and programs[-1].link_id == link.id
    return is_last and not any(each.rank is Rank.FIREWALL for each in programs)
