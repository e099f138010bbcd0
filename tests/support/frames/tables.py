"""What tables of events must say, by the events themselves."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import numpy

from netkit_bpf import EventBatch, PacketEvent

KINDS: dict[int, type[IPv4Address] | type[IPv6Address]] = {4: IPv4Address, 6: IPv6Address}
SIDES = ("primary", "peer")
# A field for each of enum nk_flags that applies where that is set.
FLAGS = ("family", "protocol", "src_port", "tcp_flags", "icmp_type", "fragment_offset", "vlan_id", "icmp_id")


def row(event: PacketEvent) -> dict[str, Any]:
    """A row of an Arrow table, the time as an integer."""
    fields = event.asdict()
    if fields["data"] is None:
        del fields["data"]
    fragment = fields.pop("fragment")
    fields["fragment_offset"], fields["fragment_more"] = fragment or (None, None)
    for name in ("src", "dst", "side"):
        fields[name] = None if fields[name] is None else str(fields[name])
    return fields


def check_array(batch: EventBatch) -> None:
    """The rows of a batch's array say what its events say, and 0 for None."""
    for event, said in zip(batch, numpy.asarray(batch), strict=True):
        expected = event.asdict()
        del expected["data"]
        fragment = expected.pop("fragment")
        assert (said["fragment_offset"], said["fragment_more"]) == (fragment or (0, False))
        assert batch.pair_names[said["pair_name"]] == expected.pop("pair_name")
        assert SIDES[said["side"]] == expected.pop("side")
        for name in ("src", "dst"):
            assert address(said["family"], bytes(said[name]).ljust(16, b"\0")) == expected.pop(name)
        assert {name: said[name] for name in expected} == {name: value or 0 for name, value in expected.items()}
        for name in FLAGS:
            applies = getattr(event, name.removesuffix("_offset")) is not None
            assert bool(said["flags"] & EventBatch.FLAGS[name]) == applies, name


def address(family: int, raw: bytes) -> IPv4Address | IPv6Address | None:
    """The address in the 16 bytes of an array."""
    if family not in KINDS:
        assert (family, raw) == (0, bytes(16))
        return None
    assert family == 6 or raw[4:] == bytes(12)
    return KINDS[family](raw[: 4 if family == 4 else 16])
