# SPDX-License-Identifier: MIT
"""A small network to experiment with: nodes in namespaces of their own, joined by a hub or by links."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from weakref import WeakMethod

from netkit_bpf.devices.device import Device
from netkit_bpf.devices.netns import NetNS
from netkit_bpf.devices.pair import NetkitPair, create_pairs, delete_group
from netkit_bpf.devices.pair_options import check_pair_options
from netkit_bpf.enums import Mode
from netkit_bpf.internal.arguments import expect_in, expect_word
from netkit_bpf.internal.resource import Closing
from netkit_bpf.lab.description import describe, parse_description
from netkit_bpf.lab.netem import LIMIT, PERFECT, Netem
from netkit_bpf.lab.node import Node
from netkit_bpf.lab.topology import HUB, MOST_NODES, Nodes, Shape, Topology

_GROUP = 1  # the group of all devices that the lab made
_FORWARDING = {
    "ipv4/ip_forward": "1",
    "ipv6/conf/all/forwarding": "1",
    # The ways there and back may differ in a graph, which a strict filter of sources takes for forgery.
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
}


class Lab(Closing):
    """Nodes that all reach each other over IPv6 and IPv4.

    Each node is a namespace of its own. In a star, which is the default, a netkit pair joins it to a hub: the primary,
    with the node's name, is in the hub, the peer, nk0, in the node. The hub is a namespace too, and the only one that
    forwards. In any other shape pairs join the nodes themselves, and each node forwards: in node a, the device that
    leads to b is called b. Packets take a shortest way; if a device is set down they do not look for another one, and
    `Device.up` brings its addresses and routes back. The machine's own network is neither touched nor reached.

    Node number i has the addresses fd42:0:0:i::2 and 10.42.i.2. In a star they are in networks of 64 and of 24 bits, in
    each of which the address of the hub ends in 1. Programs that `Node.run` starts know the nodes by their names.

    It exists from its construction until `close`; if construction fails, nothing is left behind. Any thread may
    use it.

    Args:
        nodes: the number of nodes, which are then called n1, n2 and so on; or their names, 1 to 15 bytes each; or any
            graph as a dict, which has for a name the names that it is joined to. At most 254.
        shape: "star", "line", "ring" or "mesh" (each is joined to each), if `nodes` is no dict. In a line and a ring
            they follow one another.
        mode: of the pairs, "l2" or "l3".
        mtu: of both ends of each pair, 1280 to 65535 bytes: IPv6 needs at least 1280.

    Raises:
        ValueError: an argument is not valid on any kernel.
        PermissionError: CAP_SYS_ADMIN or CAP_NET_ADMIN is missing.
        NotSupportedError: the kernel has no netkit devices.

    >>> with Lab(nodes=3) as lab:  # doctest: +SKIP
    ...     lab["n1"].run(["ping", "-c1", "n3"], check=True)
    ...     lab.link("n1", delay="20ms", loss=0.01, rate="100mbit")
    >>> lab = Lab({"client": ["left", "right"], "server": ["left", "right"]})  # doctest: +SKIP
    """

    def __init__(
        self,
        nodes: Nodes = 2,
        *,
        shape: Shape | str | None = None,
        mode: Mode | str = Mode.L3,
        mtu: int | None = None,
    ) -> None:
        import threading

        self._topology = Topology(nodes, shape)
        self._mode = expect_word(mode, Mode, "mode")
        self._mtu = None if mtu is None else expect_in(mtu, range(1280, 65536), "mtu")
        self._closed = False
        self._closing = threading.RLock()  # reentrant, because a signal handler may close within close()
        self._nodes: dict[str, Node] = {}
        self._pairs: dict[tuple[str, str], NetkitPair] = {}
        self._netems: dict[tuple[str, str], Netem] = {}
        with ExitStack() as last_first:
            self._hub = last_first.enter_context(NetNS.create()) if self._topology.hub else None
            if self._hub is not None:
                _forward(self._hub)
            self._make(list(self._topology.links), self._delete_all_pairs, last_first)
            self._cleanup = last_first.pop_all()

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> Lab:
        """Make a lab like the one that `to_dict` described. What the dict lacks is as in a new lab.

        Raises:
            ValueError: an entry is unknown, missing or not valid; then nothing is made.

        >>> lab = Lab.from_dict({"nodes": ["a", "b"], "links": [{"between": ["a"], "delay": 0.02}]})  # doctest: +SKIP
        """
        nodes, options, links = parse_description(description)
        lab = cls(nodes, **options)
        try:
            for ends, netem in links:
                lab._set_link(ends, netem)
        except BaseException:
            lab.close()
            raise
        return lab

    def to_dict(self) -> dict[str, Any]:
        """Describe the lab by values that JSON has, so that `from_dict` makes another one like it.

        >>> lab.to_dict()  # doctest: +SKIP
        {'nodes': ['a', 'b'], 'hub': True, 'mode': 'l3', 'mtu': None, 'links': [{'between': ['a'], 'delay': 0.02}]}
        """
        with self._closing:
            links = {ends: self._netems.get(ends, PERFECT) for ends in self._pairs}
            return describe(list(self._nodes), self._topology.hub, self._mode, self._mtu, links)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes, in the order in which they were named or added."""
        return tuple(self._nodes.copy().values())

    @property
    def hub(self) -> NetNS:
        """The namespace that joins the nodes of a star and forwards between them; ValueError in any other shape."""
        if self._hub is None:
            raise ValueError("this lab has no hub: its nodes are joined by links, and each of them forwards")
        return self._hub

    @property
    def pairs(self) -> tuple[NetkitPair, ...]:
        """The pairs of all links: `Monitor(*lab.pairs)` watches everything. In a star, in the order of the nodes."""
        return tuple(self._pairs.copy().values())

    def add(self, name: str, neighbours: Sequence[str] = ()) -> Node:
        """Add a node while the others go on.

        Args:
            name: of the new node, 1 to 15 bytes.
            neighbours: the names of the nodes that it is joined to; none in a star, where it is joined to the hub.

        Raises:
            ValueError: the name is taken or not valid, or there is no such neighbour; then nothing is changed.
            OSError: ENETDOWN, the way from a node to the new one begins with a device that is down; likewise.

        >>> lab.add("n4").run(["ping", "-c1", "n1"], check=True)  # doctest: +SKIP
        """
        if isinstance(neighbours, str):
            raise TypeError(f"neighbours must be several names, not one name: write [{neighbours!r}]")
        with self._closing:
            if self._closed:
                raise ValueError("this lab is closed")
            if self._topology.hub and neighbours:
                raise ValueError("a new node of a star is joined to the hub: it has no neighbours")
            self._topology.add(name)
            try:
                for other in neighbours:
                    self._topology.join(name, other)
                with ExitStack() as last_first:
                    self._make([name], lambda: self._delete_pairs_of(name), last_first)
                    self._cleanup.push(last_first.pop_all())
            except BaseException:
                with suppress(OSError):  # the first error says what is wrong
                    self._forget(name)
                raise
            if self._closed:  # by a signal handler meanwhile, which did not know of this node
                self._cleanup.close()
                raise ValueError("this lab is closed")
            return self._nodes[name]

    def remove(self, name: str) -> None:
        """Delete a node and its links while the others go on. What `Node.popen` started there is killed.

        Raises:
            KeyError: there is no such node.
            ValueError: it is the last one.
        """
        with self._closing:
            node = self[name]
            if len(self._nodes) == 1:
                raise ValueError(f"{name!r} is the last node of the lab: close the lab")
            node._kill()
            self._delete_pairs_of(name)
            node.netns.delete()
            self._forget(name)

    def link(
        self,
        name: str,
        other: str | None = None,
        *,
        delay: float | str = 0.0,
        jitter: float | str = 0.0,
        loss: float = 0.0,
        rate: float | str | None = None,
        limit: int = LIMIT,
    ) -> None:
        """Make a link as bad as a real one, as tc-netem(8) does. Replaces what was set.

        It applies to each direction, so a delay of 20 ms for two nodes of a star makes the round trip between them
        80 ms longer. Packets are delayed, lost and queued before they reach the hook. Without arguments the link is
        perfect again.

        Args:
            name: of a node.
            other: the node at the other end of the link. If not given, all links of the node are meant; in a star it
                has one, to the hub.
            delay: seconds, or a number with a unit: "20ms", "300us", "1.5s".
            jitter: by how much the delay of a packet is longer or shorter at most, likewise. Packets may overtake
                each other then.
            loss: the share of packets that are lost, 0 to 1.
            rate: bits per second, or a number with a unit: "100mbit", "1gbit", "64kbit". None: no limit.
            limit: packets that may wait; more are dropped.

        Raises:
            KeyError: there is no such node.
            ValueError: an argument is out of its range, or no link joins the two nodes.
            NotSupportedError: the kernel has no netem (CONFIG_NET_SCH_NETEM, module sch_netem).

        Source: net/sched/sch_netem.c
        """
        netem = Netem.checked(delay=delay, jitter=jitter, loss=loss, rate=rate, limit=limit)
        self._set_link((name,) if other is None else (name, other), netem)

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

    def _set_link(self, names: tuple[str, ...], netem: Netem) -> None:
        with self._closing:
            for name in names:
                self[name]
            found = [ends for ends in self._pairs if set(names) <= set(ends)]
            if len(names) > 1 and (not found or names[0] == names[1]):
                raise ValueError(f"no link joins {names[0]!r} and {names[1]!r}")
            for ends in found:
                pair = self._pairs[ends]
                for device in (pair.primary, pair.peer):
                    netem.put_on(device)
                self._netems[ends] = netem

    def _make(self, names: list[str], delete_pairs: Callable[[], None], last_first: ExitStack) -> None:
        """Make nodes of the topology and the pairs that join them; what undoes it goes to the stack."""
        for name in names:
            netns = last_first.enter_context(NetNS.create())
            taken = {each._number for each in self.nodes}
            number = next(each for each in range(1, MOST_NODES + 1) if each not in taken)
            self._nodes[name] = Node(name, netns, number, self._hosts)
            if self._topology.hub:
                Device.open("lo", netns).up()
            else:
                _forward(netns)
        last_first.callback(delete_pairs)
        for near, netns in [(HUB, self._hub)] if self._hub else [(each.name, each.netns) for each in self.nodes]:
            far_ends = [ends for ends in self._topology.ends() if ends[0] == near and ends not in self._pairs]
            made = create_pairs(netns, [self._order(*ends) for ends in far_ends]) if far_ends else []
            for ends, pair in zip(far_ends, made, strict=True):
                pair._let_go()  # to the callback above
                self._pairs[ends] = pair
                for end in (pair.primary, pair.peer):
                    self._connect(*ends, pair, end)
                    end._keeper = WeakMethod(self._restore)
        for name in names:
            last_first.callback(self._nodes[name]._kill)
        self._route()

    def _order(self, near: str, far: str) -> tuple[Any, NetNS]:
        ends = {"mtu": self._mtu, "group": _GROUP}
        peer_name = "nk0" if near == HUB else near
        return check_pair_options(far, peer_name, mode=self._mode, ends=ends), self._nodes[far].netns

    def _connect(self, near: str, far: str, pair: NetkitPair, end: Device) -> None:
        if near == HUB:
            self._nodes[far]._join_hub(pair, end)
        elif end is pair.primary:
            self._nodes[near]._join(self._nodes[far], pair, end)
        else:
            self._nodes[far]._join(self._nodes[near], pair, end)

    def _restore(self, device: Device) -> None:
        """Give a device that is up again what the kernel took when it was set down: addresses and routes."""
        with self._closing:
            for ends, pair in self._pairs.items():
                if device is pair.primary or device is pair.peer:
                    self._connect(*ends, pair, device)
                    self._route()
                    return

    def _route(self) -> None:
        """Give each node its routes to those that are no neighbours."""
        if self._topology.hub:
            return
        trouble: OSError | None = None
        for node in self.nodes:
            hops = self._topology.next_hops(node.name)
            try:
                node._set_routes({self._nodes[far]: self._nodes[hop] for far, hop in hops.items() if far != hop})
            except OSError as error:  # a device that the user set down: the others get their routes all the same
                trouble = trouble or error
        if trouble:
            raise trouble

    def _forget(self, name: str) -> None:
        """Take a node that is gone out of the tables, and the ways through it."""
        self._topology.remove(name)
        self._nodes.pop(name, None)
        for ends in [ends for ends in self._pairs if name in ends]:
            del self._pairs[ends]
            self._netems.pop(ends, None)
            for other in ends:
                if other in self._nodes:
                    self._nodes[other]._part(name)
        self._route()

    def _hosts(self) -> str:
        """The names of the nodes as hosts(5) has them."""
        return "".join(
            f"{address} {each.name}\n" for each in self.nodes for address in (each.address, each.ipv4_address)
        )

    def _delete_pairs_of(self, name: str) -> None:
        for ends, pair in self._pairs.copy().items():
            if name in ends:
                pair.delete()

    def _delete_all_pairs(self) -> None:
        for netns in [self._hub] if self._hub else [each.netns for each in self.nodes]:
            if netns._is_held():  # else its node was removed
                delete_group(_GROUP, netns)

    def _of(self) -> str:
        return ", ".join(self._nodes)

    def _repr_html_(self) -> str | None:
        from netkit_bpf.internal.drawing import draw_cables, draw_graph
        from netkit_bpf.internal.html import show

        if self._closed:
            return None
        if self._hub is None:
            boxes = {each.name: [each.name, each.address, each.ipv4_address] for each in self.nodes}
            lines = [(*ends, str(self._netems.get(ends, PERFECT))) for ends in self._pairs]
            return show(self, lambda: [draw_graph(boxes, lines)])
        hub = ["hub", self._hub._label, "forwards"]
        return show(self, lambda: [draw_cables(hub, [each.pair._cable(each.name) for each in self.nodes])])

    def __repr__(self) -> str:
        return f"<Lab {', '.join(self._nodes)}{' closed' if self._closed else ''}>"


def _forward(netns: NetNS) -> None:
    """Enable forwarding in a namespace: ip-sysctl, ip_forward and conf/all/forwarding."""

    def write() -> None:
        for name, value in _FORWARDING.items():
            path = Path("/proc/sys/net", name)
            try:
                path.write_text(value)
            except OSError as error:
                raise OSError(error.errno, f"switch forwarding on in a namespace: {path}: {error.strerror}") from None

    netns.call(write)
    Device.open("lo", netns).up()
