# SPDX-License-Identifier: MIT
"""The nodes of a lab."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from netkit_bpf.devices.device import Device
from netkit_bpf.devices.netns import AF_INET, SOCK_STREAM, NetNS
from netkit_bpf.devices.pair import NetkitPair

if TYPE_CHECKING:
    import socket
    import subprocess

_T = TypeVar("_T")


class Node:
    """A node of a `Lab`: a namespace, and the pair that joins it to the hub. Made by `Lab`. Any thread may use it."""

    def __init__(self, name: str, netns: NetNS, pair: NetkitPair, number: int) -> None:
        self._name = name
        self._netns = netns
        self._pair = pair
        self._number = number
        self._processes: set[subprocess.Popen[Any]] = set()

    @property
    def name(self) -> str:
        """The node's name, which is also the name of the pair's primary in the hub."""
        return self._name

    @property
    def netns(self) -> NetNS:
        """The node's namespace."""
        return self._netns

    @property
    def pair(self) -> NetkitPair:
        """The pair that joins the node to the hub: its peer, nk0, is in the node."""
        return self._pair

    @property
    def address(self) -> str:
        """The node's IPv6 address as a str: "fd42:0:0:1::2" for the first node."""
        return f"fd42:0:0:{self._number:x}::2"

    @property
    def ipv4_address(self) -> str:
        """The node's IPv4 address as a str: "10.42.1.2" for the first node."""
        return f"10.42.{self._number}.2"

    def run(self, argv: Sequence[str | os.PathLike[str]], **options: Any) -> subprocess.CompletedProcess[Any]:
        """Run a program in the node and wait for it; see `NetNS.run`.

        >>> lab["n1"].run(["ping", "-c1", lab["n2"].address], check=True)  # doctest: +SKIP
        """
        return self._netns.run(argv, **options)

    def popen(self, argv: Sequence[str | os.PathLike[str]], **options: Any) -> subprocess.Popen[Any]:
        """Start a program in the node; see `NetNS.popen`. It is killed when the lab is closed."""
        process = self._netns.popen(argv, **options)
        self._processes -= {each for each in self._processes.copy() if each.poll() is not None}
        self._processes.add(process)
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

    def _configure(self) -> None:
        """Give both ends their addresses, and the node its routes to the other nodes."""
        hub4, hub6 = f"10.42.{self._number}.1", f"fd42:0:0:{self._number:x}::1"
        self._pair.primary.add_address(f"{hub4}/24")
        self._pair.primary.add_address(f"{hub6}/64")
        Device.open("lo", self._netns).up()
        self._pair.peer.add_address(f"{self.ipv4_address}/24")
        self._pair.peer.add_address(f"{self.address}/64")
        self._pair.peer.add_route("default", via=hub4)
        self._pair.peer.add_route("default", via=hub6)

    def _kill(self) -> None:
        for process in self._processes.copy():
            process.kill()
            process.wait()

    def __repr__(self) -> str:
        state = "" if self._netns._is_held() else " closed"
        return f"<Node {self._name} {self.address} {self.ipv4_address}{state}>"
