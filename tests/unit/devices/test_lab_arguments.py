"""What a lab refuses before anything is made."""

from __future__ import annotations

from typing import Any

import pytest

from netkit_bpf import Lab


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"nodes": 0}, "nodes must be 1 to 254, not 0"),
        ({"nodes": 255}, "nodes must be 1 to 254, not 255"),
        ({"nodes": []}, "a lab has 1 to 254 nodes, not 0"),
        ({"nodes": ["a", "a"]}, "each needs a name of its own"),
        ({"nodes": ["a", "lo"]}, "other than lo and nk0"),
        ({"nodes": ["nk0"]}, "other than lo and nk0"),
        ({"nodes": ["a", ""]}, "the name of a node is empty"),
        ({"nodes": ["sixteen-bytes-ab"]}, "the name of a node 'sixteen-bytes-ab' has 16 bytes"),
        ({"mtu": 1279}, "mtu must be 1280 to 65535, not 1279"),
        ({"mode": "l4"}, "mode must be 'l2' or 'l3', not 'l4'"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Lab(**arguments)


@pytest.mark.parametrize("nodes", ["client", 2.0, None, {"a", "b"}, [1, 2], True])
def test_what_makes_no_sense_is_refused(nodes: Any) -> None:
    with pytest.raises(TypeError):
        Lab(nodes)
