"""The shapes of labs, graphs from a dict, the ways through them, and labs in values that JSON has."""

from __future__ import annotations

import json

import pytest

from netkit_bpf.lab.description import describe, parse_description
from netkit_bpf.lab.netem import PERFECT, Netem
from netkit_bpf.lab.topology import Topology

SLOW = Netem.checked(delay="20ms", jitter="1ms", loss=0.25, rate="100mbit", limit=50)


def test_shapes() -> None:
    assert Topology(3).ends() == [("", "n1"), ("", "n2"), ("", "n3")]
    assert Topology(["hub", "b"], "star").ends() == [("", "hub"), ("", "b")]
    assert Topology(3, "line").ends() == [("n1", "n2"), ("n2", "n3")]
    assert Topology(3, "ring").ends() == [("n1", "n2"), ("n1", "n3"), ("n2", "n3")]
    assert Topology(["a", "b"], "ring").ends() == [("a", "b")]
    assert Topology(1, "ring").ends() == []
    assert len(Topology(9, "mesh").ends()) == 36


def test_a_graph_names_each_link_from_either_end_or_both() -> None:
    graph = Topology({"a": ["b", "c"], "b": ["a"], "d": {"c"}})
    assert list(graph.links) == ["a", "b", "d", "c"]
    assert graph.ends() == [("a", "b"), ("a", "c"), ("d", "c")]
    assert not graph.hub
    assert Topology({"a": iter(["b", "c"])}).ends() == [("a", "b"), ("a", "c")]  # what is read once only


def test_a_shortest_way_is_taken() -> None:
    ring = Topology(6, "ring")
    assert ring.next_hops("n1") == {"n2": "n2", "n3": "n2", "n4": "n2", "n5": "n6", "n6": "n6"}
    ring.remove("n2")
    assert ring.next_hops("n1") == dict.fromkeys(("n3", "n4", "n5", "n6"), "n6")
    ring.add("x")
    assert ring.next_hops("x") == {}
    ring.join("x", "n1")
    assert ring.next_hops("x") == dict.fromkeys(("n1", "n3", "n4", "n5", "n6"), "n1")


@pytest.mark.parametrize(
    ("nodes", "shape", "message"),
    [
        (0, None, "nodes must be 1 to 254, not 0"),
        (255, None, "nodes must be 1 to 254, not 255"),
        ([], None, "a lab has 1 to 254 nodes, not 0"),
        ({}, None, "a lab has 1 to 254 nodes, not 0"),
        ([f"x{number}" for number in range(255)], None, "a lab has 1 to 254 nodes, not more"),
        (["a", "a"], None, "a node cannot be called 'a'"),
        (["lo"], None, "a node cannot be called 'lo'"),
        (["a/b"], None, "the name of a node 'a/b' must not contain"),
        (3, "tree", "shape must be 'star' or 'line' or 'ring' or 'mesh', not 'tree'"),
        ({"a": ["b"]}, "ring", "a dict of nodes is a graph of its own: give no shape with it"),
        ({"a": ["a"]}, None, "'a' cannot be joined to itself"),
    ],
)
def test_what_is_no_topology(nodes: object, shape: str | None, message: str) -> None:
    with pytest.raises(ValueError, match="^" + message):
        Topology(nodes, shape)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ("abc", r"not one name: write \['abc'\]"),
        ({"a": "bc"}, r"nodes\['a'\] must be the names of the nodes it is joined to, as \['bc'\]"),
        ({"a": 1}, r"nodes\['a'\] must be the names"),
        (2.0, "nodes must be a Sequence, not float"),
        ([1], "the name of a node must be a str, not int"),
    ],
)
def test_what_is_no_list_of_names(nodes: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Topology(nodes)  # type: ignore[arg-type]


def test_a_lab_as_a_dict_and_back() -> None:
    star = describe(["a", "b"], True, "l3", None, {("", "a"): SLOW, ("", "b"): PERFECT})
    assert star["links"] == [{"between": ["a"], "delay": 0.02, "jitter": 0.001, "loss": 0.25, "rate": 1e8, "limit": 50}]
    assert parse_description(json.loads(json.dumps(star))) == (
        ["a", "b"],
        {"mode": "l3", "mtu": None},
        [(("a",), SLOW)],
    )
    graph = describe(["a", "b", "c"], False, "l2", 9000, {("a", "b"): PERFECT, ("b", "c"): SLOW})
    assert parse_description(json.loads(json.dumps(graph))) == (
        {"a": ["b"], "b": ["c"], "c": []},
        {"mode": "l2", "mtu": 9000},
        [(("a", "b"), PERFECT), (("b", "c"), SLOW)],
    )


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({}, "needs an entry 'nodes'"),
        ({"nodes": ["a"], "shape": "ring"}, "the dict of a lab has an unknown entry 'shape': there are nodes, hub"),
        ({"nodes": ["a"], "links": [{"between": ["b"]}]}, "a link leads to 'b', which is not among the nodes"),
        ({"nodes": ["a"], "links": [{}]}, r"'between' of a link must be the node, not \[\]"),
        ({"nodes": ["a", "a"], "hub": False}, "there are two nodes 'a'"),
        ({"nodes": ["a"], "hub": False, "links": [{"between": ["a"]}]}, "must be two nodes"),
        ({"nodes": ["a"], "links": [{"between": ["a"], "lost": 1}]}, "a link has an unknown entry 'lost'"),
        ({"nodes": ["a"], "links": [{"between": ["a"], "loss": 2}]}, "loss is a share"),
    ],
)
def test_what_describes_no_lab(description: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_description(description)


def test_what_a_link_says_of_itself() -> None:
    assert str(PERFECT) == ""
    assert str(SLOW) == "20 ms ± 1, loss 0.25, 100 Mbit/s"
