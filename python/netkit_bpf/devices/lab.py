# SPDX-License-Identifier: MIT
"""A small network to experiment with: nodes in namespaces of their own, joined by a hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from netkit_bpf.devices.device import Device
from netkit_bpf.devices.netns import AF_INET, SOCK_STREAM, NetNS
from netkit_bpf.devices.pair import NetkitPair, create_pairs, delete_group
from netkit_bpf.devices.pair_options import pair_spec
from netkit_bpf.enums import Mode
from netkit_bpf.internal.arguments import check_device_name, expect, expect_in
from netkit_bpf.internal.resource import Closing

if TYPE_CHECKING:
    import socket
    import subprocess

_MOST = 254  # each node has an IPv4 network with its number in the third byte
_GROUP = 1  # of all devices in the hub that the lab made
_FORWARDING = ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding")

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
        """The node's name, which is also that of the pair's primary, in the hub."""
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
        """The node's IPv6 address, as sockets and programs take it: "fd42:0:0:1::2" of the first node."""
        return f"fd42:0:0:{self._number:x}::2"

    @property
    def ipv4_address(self) -> str:
        """The node's IPv4 address: "10.42.1.2" of the first node."""
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
        """Give both ends their addresses, and the node its way to the other nodes."""
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


class Lab(Closing):
    """Nodes that all reach each other over IPv6 and IPv4, through a hub.

    Each node is a namespace of its own. A netkit pair joins it to the hub: the primary, with the node's name, is in
    the hub, the peer, nk0, in the node. The hub is a namespace too, the only place where packets are forwarded, so
    nothing of the machine's own network is touched or reached. The node number i has the networks fd42:0:0:i::/64
    and 10.42.i.0/24; of these the hub's address ends in 1, the node's in 2.

    It stands from its construction until `close`; where construction fails, nothing is left behind. Any thread may
    use it.

    Args:
        nodes: how many, then called n1, n2 and so on; or their names, 1 to 15 bytes each. 254 at most.
        mode: of the pairs, "l2" or "l3".
        mtu: of the pairs' both ends, 1280 to 65535 bytes: IPv6 needs that much.

    Raises:
        ValueError: an argument is not possible, whatever the kernel.
        PermissionError: CAP_SYS_ADMIN or CAP_NET_ADMIN is missing.
        NotSupportedError: the kernel has no netkit devices.

    >>> with Lab(nodes=3) as lab:  # doctest: +SKIP
    ...     lab["n1"].run(["ping", "-c1", lab["n3"].address], check=True)
    """

    def __init__(self, nodes: int | Sequence[str] = 2, *, mode: Mode | str = Mode.L3, mtu: int | None = None) -> None:
        import threading

        names = _check_names(nodes)
        if mtu is not None:
            expect_in(mtu, range(1280, 65536), "mtu")
        ends = {"mtu": mtu, "group": _GROUP}
        specs = [pair_spec(name, "nk0", mode=mode, ends=ends) for name in names]
        self._closed = False
        self._closing = threading.RLock()  # of one thread, as a signal handler that closes runs within its close()
        with ExitStack() as last_first:
            self._hub = last_first.enter_context(NetNS.create())
            spaces = [last_first.enter_context(NetNS.create()) for _ in names]
            self._hub.call(_forward)
            Device.open("lo", self._hub).up()
            last_first.callback(self._delete_pairs)
            pairs = create_pairs(self._hub, list(zip(specs, spaces, strict=True)))
            for pair in pairs:
                pair._let_go()  # to the callback above
            self._nodes = {
                name: Node(name, netns, pair, number)
                for number, (name, netns, pair) in enumerate(zip(names, spaces, pairs, strict=True), 1)
            }
            for node in self.nodes:
                node._configure()
                last_first.callback(node._kill)
            self._cleanup = last_first.pop_all()

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes, in the order of their numbers."""
        return tuple(self._nodes.values())

    @property
    def hub(self) -> NetNS:
        """The namespace that joins the nodes and forwards between them."""
        return self._hub

    @property
    def pairs(self) -> tuple[NetkitPair, ...]:
        """The nodes' pairs, in the order of the nodes: `Monitor(*lab.pairs)` watches everything."""
        return tuple(node.pair for node in self.nodes)

    def __getitem__(self, name: str) -> Node:
        """The node of that name."""
        try:
            return self._nodes[name]
        except KeyError:
            raise KeyError(f"there is no node {name!r} in this lab: there are {', '.join(self._nodes)}") from None

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """Kill what was started by `Node.popen`, delete the pairs and the namespaces. Idempotent.

        Any thread or signal handler may call it. Another thread that comes second waits for the first.
        """
        self._closed = True
        with self._closing:
            self._cleanup.close()  # a signal handler may finish it meanwhile: each step is taken off, then made

    def _of(self) -> str:
        return ", ".join(self._nodes)

    def __repr__(self) -> str:
        return f"<Lab {', '.join(self._nodes)}{' closed' if self._closed else ''}>"

    def _delete_pairs(self) -> None:
        delete_group(_GROUP, self._hub)


def _forward() -> None:
    """Let this thread's namespace forward: ip-sysctl, ip_forward and conf/all/forwarding."""
    for path in _FORWARDING:
        try:
            Path(path).write_text("1")
        except OSError as error:
            raise OSError(error.errno, f"switch forwarding on in the lab's hub: {path}: {error.strerror}") from None


def _check_names(nodes: int | Sequence[str]) -> list[str]:
    """Return the names of the nodes."""
    if isinstance(nodes, int):
        return [f"n{number}" for number in range(1, expect_in(nodes, range(1, _MOST + 1), "nodes") + 1)]
    if isinstance(nodes, str):
        raise TypeError(f"nodes must be a number or several names, not one name: write [{nodes!r}]")
    names = [check_device_name(name, "the name of a node") for name in expect(nodes, Sequence, "nodes")]  # type: ignore[type-abstract]
    if not 1 <= len(names) <= _MOST:
        raise ValueError(f"a lab has 1 to {_MOST} nodes, not {len(names)}")
    if len(set(names)) < len(names) or {"lo", "nk0"} & set(names):
        raise ValueError("each node needs a name of its own, other than lo and nk0, as which it knows its devices")
    return names
