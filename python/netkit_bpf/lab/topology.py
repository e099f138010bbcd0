# SPDX-License-Identifier: MIT
"""Which nodes of a lab are joined to which: shapes, graphs, and the ways through them."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

from netkit_bpf.internal.arguments import check_device_name, expect, expect_in

Shape = Literal["star", "line", "ring", "mesh"]
Nodes = int | Sequence[str] | Mapping[str, Iterable[str]]
HUB = ""  # at the near end of a link; no node is called so
MOST_NODES = 254  # each node has an IPv4 network with its number in the third byte
_DEVICES = ("lo", "nk0")  # of a node, in a star


class Topology:
    """The names of the nodes, and the links between them.

    Args:
        nodes: as `Lab` takes it.
        shape: as `Lab` takes it.

    Attributes:
        hub: whether the nodes are joined by a hub instead of links.
        links: for each node the nodes that it is joined to directly, both in the order of their names' appearance.
    """

    def __init__(self, nodes: Nodes, shape: Shape | str | None = None) -> None:
        graph = isinstance(nodes, Mapping)
        if isinstance(nodes, Mapping):  # what is read twice below may be read once only
            nodes = {name: _as_list(name, others) for name, others in nodes.items()}
        if graph and shape is not None:
            raise ValueError("a dict of nodes is a graph of its own: give no shape with it")
        shape = "star" if shape is None else shape
        if shape not in get_args(Shape):
            raise ValueError(f"shape must be {' or '.join(map(repr, get_args(Shape)))}, not {shape!r}")
        self.hub = shape == "star" and not graph
        names = _expand(nodes)
        if not names:
            raise ValueError(f"a lab has 1 to {MOST_NODES} nodes, not 0")
        self.links: dict[str, list[str]] = {}
        for name in names:
            self.add(name)
        if isinstance(nodes, Mapping):
            for name, others in nodes.items():
                for other in others:
                    self.join(name, other)
        elif not self.hub:
            for name, other in _shape(names, shape):
                self.join(name, other)

    def add(self, name: str) -> None:
        """Add a node that is joined to no other."""
        check_device_name(name, "the name of a node")
        if len(self.links) == MOST_NODES:
            raise ValueError(f"a lab has 1 to {MOST_NODES} nodes, not more")
        if name in self.links or name in _DEVICES:
            raise ValueError(
                f"a node cannot be called {name!r}: each needs a name of its own, other than lo and nk0, the names of"
                " a node's devices"
            )
        self.links[name] = []

    def join(self, name: str, other: str) -> None:
        """Join two nodes; two that are joined already stay so, as a dict may name a link from both its ends."""
        for each in (name, other):
            if each not in self.links:
                raise ValueError(f"{name!r} cannot be joined to {other!r}: there is no node {each!r}")
        if name == other:
            raise ValueError(f"{name!r} cannot be joined to itself")
        if other not in self.links[name]:
            self.links[name].append(other)
            self.links[other].append(name)

    def remove(self, name: str) -> None:
        """Remove a node and its links."""
        for other in self.links.pop(name):
            self.links[other].remove(name)

    def ends(self) -> list[tuple[str, str]]:
        """The two ends of each link, in the order of the nodes."""
        if self.hub:
            return [(HUB, name) for name in self.links]
        place = {name: number for number, name in enumerate(self.links)}
        return [(name, other) for name, others in self.links.items() for other in others if place[name] < place[other]]

    def next_hops(self, name: str) -> dict[str, str]:
        """The node that comes next on a shortest way, for each other node that is reached from here."""
        hops: dict[str, str] = {}
        waiting = deque((other, other) for other in self.links[name])
        while waiting:
            node, hop = waiting.popleft()
            if node != name and node not in hops:
                hops[node] = hop
                waiting.extend((other, hop) for other in self.links[node])
        return hops


def _expand(nodes: Nodes) -> list[str]:
    """The names, which a number stands for as well."""
    if isinstance(nodes, int):
        return [f"n{number}" for number in range(1, expect_in(nodes, range(1, MOST_NODES + 1), "nodes") + 1)]
    if isinstance(nodes, str):
        raise TypeError(f"nodes must be a number or several names, not one name: write [{nodes!r}]")
    if not isinstance(nodes, Mapping):
        return list(expect(nodes, Sequence, "nodes"))  # type: ignore[type-abstract]
    # A node that is joined to others only from their side needs no entry of its own.
    return list(dict.fromkeys([*nodes, *itertools.chain.from_iterable(nodes.values())]))


def _as_list(name: str, others: Iterable[str]) -> list[str]:
    if isinstance(others, str) or not isinstance(others, Iterable):
        raise TypeError(f"nodes[{name!r}] must be the names of the nodes it is joined to, as [{str(others)!r}]")
    return list(others)


def _shape(names: Sequence[str], shape: str) -> Iterable[tuple[str, str]]:
    """The links of a line, a ring or a mesh."""
    if shape == "mesh":
        return itertools.combinations(names, 2)
    line = list(itertools.pairwise(names))
    return [*line, (names[-1], names[0])] if shape == "ring" and len(names) > 2 else line
