# SPDX-License-Identifier: MIT
"""A small network to experiment with: nodes in namespaces of their own, joined by a hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from netkit_bpf.devices.device import Device
from netkit_bpf.devices.netns import NetNS
from netkit_bpf.devices.pair import NetkitPair, create_pairs, delete_group
from netkit_bpf.devices.pair_options import check_pair_options
from netkit_bpf.enums import Mode
from netkit_bpf.internal.arguments import check_device_name, expect, expect_in
from netkit_bpf.internal.resource import Closing
from netkit_bpf.lab.netem import LIMIT, Netem
from netkit_bpf.lab.node import Node

_MOST = 254  # each node has an IPv4 network with its number in the third byte
_GROUP = 1  # the group of all devices that the lab made in the hub
_FORWARDING = ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding")


class Lab(Closing):
    """Nodes that all reach each other over IPv6 and IPv4, through a hub.

    Each node is a namespace of its own. A netkit pair joins it to the hub: the primary, with the node's name, is in
    the hub, the peer, nk0, in the node. The hub is a namespace too. Packets are forwarded only there, so the machine's
    own network is neither touched nor reached. Node number i has the networks fd42:0:0:i::/64 and 10.42.i.0/24; in
    each, the address of the hub ends in 1, that of the node in 2.

    It exists from its construction until `close`; if construction fails, nothing is left behind. Any thread may
    use it.

    Args:
        nodes: the number of nodes, which are then called n1, n2 and so on; or their names, 1 to 15 bytes each. At most
            254.
        mode: of the pairs, "l2" or "l3".
        mtu: of both ends of each pair, 1280 to 65535 bytes: IPv6 needs at least 1280.

    Raises:
        ValueError: an argument is not valid on any kernel.
        PermissionError: CAP_SYS_ADMIN or CAP_NET_ADMIN is missing.
        NotSupportedError: the kernel has no netkit devices.

    >>> with Lab(nodes=3) as lab:  # doctest: +SKIP
    ...     lab["n1"].run(["ping", "-c1", lab["n3"].address], check=True)
    ...     lab.link("n1", delay="20ms", loss=0.01, rate="100mbit")
    """

    def __init__(self, nodes: int | Sequence[str] = 2, *, mode: Mode | str = Mode.L3, mtu: int | None = None) -> None:
        import threading

        names = _check_names(nodes)
        if mtu is not None:
            expect_in(mtu, range(1280, 65536), "mtu")
        ends = {"mtu": mtu, "group": _GROUP}
        options = [check_pair_options(name, "nk0", mode=mode, ends=ends) for name in names]
        self._closed = False
        self._closing = threading.RLock()  # reentrant, because a signal handler may close within close()
        with ExitStack() as last_first:
            self._hub = last_first.enter_context(NetNS.create())
            spaces = [last_first.enter_context(NetNS.create()) for _ in names]
            self._hub.call(_forward)
            Device.open("lo", self._hub).up()
            last_first.callback(self._delete_pairs)
            pairs = create_pairs(self._hub, list(zip(options, spaces, strict=True)))
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

    def link(
        self,
        name: str,
        *,
        delay: float | str = 0.0,
        jitter: float | str = 0.0,
        loss: float = 0.0,
        rate: float | str | None = None,
        limit: int = LIMIT,
    ) -> None:
        """Make the link between a node and the hub as bad as a real one, as tc-netem(8) does. Replaces what was set.

        It applies to each direction, so a delay of 20 ms makes the round trip between two such nodes 80 ms longer.
        Packets are delayed, lost and queued before they reach the hook. Without arguments the link is perfect again.

        Args:
            name: of the node.
            delay: seconds, or a number with a unit: "20ms", "300us", "1.5s".
            jitter: by how much the delay of a packet is longer or shorter at most, likewise. Packets may overtake
                each other then.
            loss: the share of packets that are lost, 0 to 1.
            rate: bits per second, or a number with a unit: "100mbit", "1gbit", "64kbit". None: no limit.
            limit: packets that may wait; more are dropped.

        Raises:
            KeyError: there is no such node.
            ValueError: an argument is out of its range.
            NotSupportedError: the kernel has no netem (CONFIG_NET_SCH_NETEM, module sch_netem).

        Source: net/sched/sch_netem.c
        """
        netem = Netem.checked(delay=delay, jitter=jitter, loss=loss, rate=rate, limit=limit)
        pair = self[name].pair
        for device in (pair.primary, pair.peer):
            netem.put_on(device)

    def __getattr__(self, name: str) -> Node:
        """The node of that name, if it is a word of Python's: `lab.n1`."""
        nodes: dict[str, Node] = self.__dict__.get("_nodes", {})
        if name in nodes:
            return nodes[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}, and no node of that name")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._nodes]

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
        """Kill the processes that `Node.popen` started, and delete the pairs and the namespaces. Idempotent.

        Any thread or signal handler may call it. A second thread waits for the first.
        """
        self._closed = True
        with self._closing:
            self._cleanup.close()  # a signal handler may finish it meanwhile: each step is removed before it runs

    def _of(self) -> str:
        return ", ".join(self._nodes)

    def _repr_html_(self) -> str | None:
        from netkit_bpf.internal.drawing import draw_cables
        from netkit_bpf.internal.html import show

        if self._closed:
            return None
        hub = ["hub", self._hub._label, "forwards"]
        return show(self, lambda: [draw_cables(hub, [each.pair._cable(each.name) for each in self.nodes])])

    def __repr__(self) -> str:
        return f"<Lab {', '.join(self._nodes)}{' closed' if self._closed else ''}>"

    def _delete_pairs(self) -> None:
        delete_group(_GROUP, self._hub)


def _forward() -> None:
    """Enable forwarding in this thread's namespace: ip-sysctl, ip_forward and conf/all/forwarding."""
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
        raise ValueError("each node needs a name of its own, other than lo and nk0, the names of its own devices")
    return names
