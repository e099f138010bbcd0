# SPDX-License-Identifier: MIT
"""A lab in values that JSON has, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from netkit_bpf.internal.arguments import expect
from netkit_bpf.lab.netem import LIMIT, Netem
from netkit_bpf.lab.topology import HUB

_ENTRIES = ("nodes", "hub", "mode", "mtu", "links")
_OF_A_LINK = ("between", "delay", "jitter", "loss", "rate", "limit")


def describe(
    names: list[str], hub: bool, mode: str, mtu: int | None, links: Mapping[tuple[str, str], Netem]
) -> dict[str, Any]:
    """What `Lab.to_dict` returns."""
    listed: list[dict[str, Any]] = [
        {"between": [end for end in ends if end != HUB], **netem.words()} for ends, netem in links.items()
    ]
    if hub:
        listed = [each for each in listed if len(each) > 1]  # each node has a link, so the perfect ones say nothing
    return {"nodes": names, "hub": hub, "mode": str(mode), "mtu": mtu, "links": listed}


def parse_description(
    description: Mapping[str, Any],
) -> tuple[list[str] | dict[str, list[str]], dict[str, Any], list[tuple[tuple[str, ...], Netem]]]:
    """The nodes, the other arguments of `Lab`, and the links with what they do to packets."""
    _check_entries(description, _ENTRIES, "the dict of a lab")
    if "nodes" not in description:
        raise ValueError("the dict of a lab needs an entry 'nodes'")
    names = [expect(name, str, "the name of a node") for name in _expect_list(description["nodes"], "nodes")]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"there are two nodes {twice[0]!r}")
    hub = expect(description.get("hub", True), bool, "hub")
    links: list[tuple[tuple[str, ...], Netem]] = []
    graph: dict[str, list[str]] = {name: [] for name in names}
    for link in _expect_list(description.get("links", ()), "links"):
        _check_entries(link, _OF_A_LINK, "a link")
        ends = tuple(_expect_list(link.get("between", ()), "between"))
        if len(ends) != (1 if hub else 2):
            raise ValueError(f"'between' of a link must be {'the node' if hub else 'two nodes'}, not {list(ends)}")
        if unknown := [end for end in ends if end not in graph]:
            raise ValueError(f"a link leads to {unknown[0]!r}, which is not among the nodes")
        if not hub:
            graph[ends[0]].append(ends[1])
        words = {"delay": 0.0, "jitter": 0.0, "loss": 0.0, "rate": None, "limit": LIMIT, **link}
        del words["between"]
        links.append((ends, Netem.checked(**words)))
    return names if hub else graph, {word: description[word] for word in ("mode", "mtu") if word in description}, links


def _check_entries(given: object, known: Sequence[str], what: str) -> None:
    unknown = expect(given, Mapping, what).keys() - set(known)  # type: ignore[type-abstract]
    if unknown:
        raise ValueError(f"{what} has an unknown entry {min(map(repr, unknown))}: there are {', '.join(known)}")


def _expect_list(value: object, entry: str) -> Sequence[Any]:
    if isinstance(value, str):
        raise TypeError(f"{entry!r} must be a list, not a text: write [{value!r}]")
    return expect(value, Sequence, repr(entry))  # type: ignore[type-abstract]
