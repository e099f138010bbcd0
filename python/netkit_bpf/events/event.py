# SPDX-License-Identifier: MIT
"""Packet events."""

from __future__ import annotations

from typing import NamedTuple

from netkit_bpf._core import PacketEvent

__all__ = ["Fragment", "PacketEvent"]


class Fragment(NamedTuple):
    """Where a fragment belongs (RFC 791 section 3.1, RFC 8200 section 4.5).

    Attributes:
        offset: bytes from the start of the fragmentable part, a multiple of 8.
        more: whether fragments follow this one.
    """

    offset: int
    more: bool


def _to_json(event: PacketEvent) -> str:
    """Serve PacketEvent.to_json(), which the extension module hands on to here."""
    import json

    fields = event.asdict()
    if event.fragment is not None:
        fields["fragment"] = event.fragment._asdict()
    if event.data is not None:
        fields["data"] = event.data.hex()
    return json.dumps(fields, default=str)
