# SPDX-License-Identifier: MIT
"""The nodes of a lab."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from netkit_bpf.devices.device import Device
from netkit_bpf.devices.netns import AF_INET, SOCK_STREAM, NetNS
from netkit_bpf.devices.pair import NetkitPair

if TYPE_CHECKING:
    import socket
    import subprocess

_T = TypeVar("_T")


class Node:
    """A node of a `Lab`: a namespace, and the pairs that join it to the hub or to others. Made by `Lab`.

    Any thread may use it.
    """

    def __init__(self, name: str, netns: NetNS, number: int, hosts: Callable[[], str]) -> None:
        self._name = name
        self._netns = netns
        self._number = number
        self._hosts = hosts
        self._links: dict[str, tuple[NetkitPair, Device]] = {}  # with the end that is here
        self._routes: dict[Node, Node] = {}  # by which neighbour a node is reached that is none
        self._processes: set[subprocess.Popen[Any]] = set()
        self._is_gone = False

    @property
    def name(self) -> str:
        """The node's name, which is also that of the device at the other end of each of its links."""
        return self._name

    @property
    def netns(self) -> NetNS:
        """The node's namespace."""
        return self._netns

    @property
    def links(self) -> dict[str, NetkitPair]:
        """The pairs that join it to other nodes, by their names; in a star one, to "hub"."""
        return {other: pair for other, (pair, _) in self._links.copy().items()}

    @property
    def pair(self) -> NetkitPair:
        """The pair that joins the node to the hub: its peer, nk0, is in the node.

        In another shape, the pair of its only link; ValueError if it has none or several.
        """
        if len(self._links) != 1:
            raise ValueError(f"node {self._name} has {len(self._links)} links, not one: see links, by their other ends")
        return next(iter(self.links.values()))

    def device(self, other: str) -> Device:
        """The device here that leads to another node, or to "hub"; KeyError if no link does.

        >>> lab["n1"].device("n2").hook("ingress")  # doctest: +SKIP
        """
        try:
            return self._links[other][1]
        except KeyError:
            raise KeyError(f"no link joins {self._name!r} and {other!r}: it has {', '.join(self._links)}") from None

    @property
    def address(self) -> str:
        """The node's IPv6 address as a str: "fd42:0:0:1::2" for the first node."""
        return f"fd42:0:0:{self._number:x}::2"

    @property
    def ipv4_address(self) -> str:
        """The node's IPv4 address as a str: "10.42.1.2" for the first node."""
        return f"10.42.{self._number}.2"

    def run(self, argv: Sequence[str | os.PathLike[str]], **options: Any) -> subprocess.CompletedProcess[Any]:
        """Run a program in the node and wait for it; see `NetNS.run`. It knows the other nodes by their names.

        A name that is a number is taken for an address, as everywhere.

        >>> lab["n1"].run(["ping", "-c1", "n2"], check=True)  # doctest: +SKIP
        """
        __tracebackhide__ = True
        return self._netns._run(argv, self._hosts(), **options)

    def popen(self, argv: Sequence[str | os.PathLike[str]], **options: Any) -> subprocess.Popen[Any]:
        """Start a program in the node; see `NetNS.popen`. It knows the other nodes by their names.

        It is killed when the lab is closed or the node is removed.
        """
        process = self._netns._popen(argv, self._hosts(), **options)
        self._processes -= {each for each in self._processes.copy() if each.poll() is not None}
        self._processes.add(process)
        if self._is_gone:  # since the process was asked for
            self._kill()
            raise ValueError(f"node {self._name} was removed, or its lab closed")
        return process

    def socket(
        self,
        family: int = AF_INET,
        type: int = SOCK_STREAM,  # noqa: A002 - as socket.socket() names it
        proto: int = 0,
    ) -> socket.socket:
        """Make a Python socket that belongs to the node; see `NetNS.socket`."""
        return self._netns.socket(family, type, proto)

    def call(self, function: Callable[..., _T], /, *args: Any, **kwargs: Any) -> _T:
        """Call a function on a new thread inside the node; see `NetNS.call`."""
        return self._netns.call(function, *args, **kwargs)

    def _join_hub(self, pair: NetkitPair, end: Device) -> None:
        """Give an end of the pair the addresses that it lacks; that in the node also its routes to the other nodes."""
        hub4, hub6 = f"10.42.{self._number}.1", f"fd42:0:0:{self._number:x}::1"
        if end is pair.primary:
            _unless_there(end.add_address, f"{hub4}/24")
            _unless_there(end.add_address, f"{hub6}/64")
        else:
            _unless_there(end.add_address, f"{self.ipv4_address}/24")
            _unless_there(end.add_route, "default", via=hub4)
            _unless_there(end.add_address, f"{self.address}/64")
            _unless_there(end.add_route, "default", via=hub6)
        self._links["hub"] = (pair, pair.peer)

    def _join(self, other: Node, pair: NetkitPair, device: Device) -> None:
        """Give the end that is here the node's addresses, and the other end's as those of a point-to-point link.

        Its routes have to be set once more if it was down, as the kernel took them.
        """
        _unless_there(device.add_address, f"{self.ipv4_address}/32", peer=other.ipv4_address)
        _unless_there(device.add_address, f"{self.address}/128", peer=other.address)
        self._links[other.name] = (pair, device)
        self._routes = {far: hop for far, hop in self._routes.items() if hop is not other}

    def _part(self, other: str) -> None:
        """Forget a link whose pair is deleted."""
        self._links.pop(other, None)

    def _set_routes(self, wanted: dict[Node, Node]) -> None:
        """Reach each of these nodes by a neighbour, and no others but the neighbours themselves."""
        for far, hop in list(self._routes.items()):
            if wanted.get(far) is not hop:
                del self._routes[far]
                if hop.name in self._links:  # else the routes went with the device
                    for dst, via in _ways(far, hop):
                        with suppress(ProcessLookupError):
                            self.device(hop.name).remove_route(dst, via=via)
        for far, hop in wanted.items():
            if far not in self._routes:
                try:
                    for dst, via in _ways(far, hop):
                        self.device(hop.name).add_route(dst, via=via)
                except OSError:
                    for dst, via in _ways(far, hop):
                        with suppress(OSError):
                            self.device(hop.name).remove_route(dst, via=via)
                    raise
                self._routes[far] = hop

    def _kill(self) -> None:
        self._is_gone = True
        for process in self._processes.copy():
            process.kill()
            process.wait()

    def __repr__(self) -> str:
        state = "" if self._netns._is_held() else " closed"
        return f"<Node {self._name} {self.address} {self.ipv4_address}{state}>"


def _unless_there(add: Callable[..., None], *args: str, **options: str) -> None:
    with suppress(FileExistsError):
        add(*args, **options)


def _ways(far: Node, hop: Node) -> list[tuple[str, str]]:
    return [(f"{far.ipv4_address}/32", hop.ipv4_address), (f"{far.address}/128", hop.address)]
