# SPDX-License-Identifier: MIT
"""What became of the packets of an exported stream."""

from __future__ import annotations

import json
from typing import NamedTuple


class Account(NamedTuple):
    """The counts of one side of a pair since its stream began. The last one says all; differences are rates.

    `delivered` is how many rows a store must have, with the sequence numbers of the stream from 0 on. While there is no
    traffic, `seen == delivered + lost + pending`.

    Attributes:
        schema_version: of these fields and of the rows.
        host: the name of the machine (uname(2)), which is that of the container in one.
        boot_id: the kernel's name for the time since the machine started (random(4)).
        netns_cookie: `NetNS.cookie` of the primary's namespace; None if it is unknown, or `pair_name` is.
        pair_name: the primary's name; None if a reader of your own programs has the counts of several pairs together.
        stream: the name of the stream, which no other one has.
        side: "primary" or "peer".
        time_ns: when it was drawn up: nanoseconds of Unix time.
        seen: packets that reached the hook and match the filter, if there is one.
        delivered: events handed out by the reader.
        lost: packets that found the ring full; they went on, unrecorded.
        pending: events that wait to be read.
    """

    schema_version: int
    host: str
    boot_id: str
    netns_cookie: int | None
    pair_name: str | None
    stream: str
    side: str
    time_ns: int
    seen: int
    delivered: int
    lost: int
    pending: int

    def to_json(self) -> str:
        """The account as a line of JSON, of type "account"."""
        return json.dumps({"type": "account", **self._asdict()})
