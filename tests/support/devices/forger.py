"""Root of a user namespace, who may write to every route netlink socket in its network namespace."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from forked import Forked
from in_child import in_child

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
NETLINK_ROUTE, NLMSG_ERROR, RTM_NEWLINK, RTM_DELLINK, RTNLGRP_LINK = 0, 2, 16, 17, 1
IFLA_IFNAME, IFLA_LINK, IFLA_LINKINFO, IFLA_LINK_NETNSID, IFLA_INFO_KIND = 3, 5, 18, 37, 1

_libc = ctypes.CDLL(None, use_errno=True)


def foreign_namespace() -> Forked:
    """A process in a network namespace that belongs to a user namespace of its own."""
    return Forked(lambda: _checked(_libc.unshare(CLONE_NEWUSER | CLONE_NEWNET)))


def inside(pid: int, function: Callable[[], str]) -> str:
    """The result of the function, called with all rights of that namespace's root and no others."""

    def enter() -> str:
        for kind, flag in (("user", CLONE_NEWUSER), ("net", CLONE_NEWNET)):
            with open(f"/proc/{pid}/ns/{kind}") as namespace:
                _checked(_libc.setns(namespace.fileno(), flag))
        return function()

    return in_child(enter)


def netlink_ports() -> list[int]:
    """The ports of all route netlink sockets in this namespace, but the kernel's."""
    rows = [line.split() for line in Path("/proc/thread-self/net/netlink").read_text().splitlines()[1:]]
    return [int(row[2]) for row in rows if int(row[1]) == NETLINK_ROUTE and int(row[2])]


def attribute(number: int, value: bytes) -> bytes:
    data = struct.pack("=HH", 4 + len(value), number) + value
    return data + bytes(-len(data) % 4)


def link_message(type_: int, ifindex: int, attributes: bytes = b"", sequence: int = 0, port: int = 0) -> bytes:
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, ifindex, 0, 0xFFFFFFFF) + attributes
    return struct.pack("=IHHII", 16 + len(body), type_, 0, sequence, port) + body


def acknowledgement(sequence: int, port: int) -> bytes:
    return struct.pack("=IHHIIi", 36, NLMSG_ERROR, 0, sequence, port, 0) + bytes(16)


def send_to_ports(message: Callable[[int], bytes]) -> list[str]:
    """Send each port a message made for it; return what became of each."""
    outcome = []
    for port in netlink_ports():
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE) as forger:
            try:
                forger.sendto(message(port), (port, 0))
                outcome.append("taken")
            except OSError as error:
                outcome.append(str(error.strerror))
    return outcome


def send_to_group(group: int, message: bytes) -> str:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE) as forger:
        forger.sendto(message, (0, 1 << (group - 1)))
    return "sent"


def _checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
