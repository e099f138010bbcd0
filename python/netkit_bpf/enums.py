# SPDX-License-Identifier: MIT
"""The words of netkit: each enumeration's members are their lower-case names, as ip-link(8) writes them.

The numbers behind them are the core's.
"""

from __future__ import annotations

import enum
from typing import TypeVar

from netkit_bpf._core import WORDS

_W = TypeVar("_W", bound="_Word")


class _Word(str, enum.Enum):
    """A member is a str: it compares, formats and serialises to JSON as its name."""

    @property
    def number(self) -> int:
        """Its number in the kernel, or in the core."""
        return WORDS[type(self).__name__][self.value]

    @classmethod
    def from_number(cls: type[_W], number: int | None, missing: _W | None = None) -> _W:
        """Return the member with that number; `missing` for None, ValueError for an unknown number."""
        if number is None and missing is not None:
            return missing
        for word, known in WORDS[cls.__name__].items():
            if known == number:
                return cls(word)
        raise ValueError(f"the kernel says {number}, which is not one of {', '.join(cls)}")

    def __str__(self) -> str:
        return str(self.value)


class Mode(_Word):
    """What a pair carries: Ethernet frames (l2) or IP packets without addresses of a link layer (l3)."""

    L2 = "l2"
    L3 = "l3"


class Policy(_Word):
    """What happens to a packet on a side without a program: it passes, or it is dropped."""

    FORWARD = "forward"
    BLACKHOLE = "blackhole"


class Scrub(_Word):
    """What a packet loses as it crosses namespaces: nothing (none), or its mark and priority (default)."""

    NONE = "none"
    DEFAULT = "default"


class AddrGenMode(_Word):
    """How the kernel makes a device's IPv6 link-local address: from its MAC, not at all, or opaque (RFC 7217)."""

    EUI64 = "eui64"
    NONE = "none"
    STABLE_SECRET = "stable_secret"
    RANDOM = "random"


class Side(_Word):
    """An end of a pair, or the hook that sees what this end sends."""

    PRIMARY = "primary"
    PEER = "peer"

    @property
    def section(self) -> str:
        """The section of programs for this hook."""
        return f"netkit/{self}"


class Direction(_Word):
    """The hooks that every device has (tcx): what it receives (ingress), what it sends (egress)."""

    INGRESS = "ingress"
    EGRESS = "egress"

    @property
    def section(self) -> str:
        """The section of programs for this hook."""
        return f"tcx/{self}"


class Rank(_Word):
    """Where a packet function belongs on a hook: a firewall in front, then observers, a balancer behind all others."""

    FIREWALL = "firewall"
    OBSERVER = "observer"
    BALANCER = "balancer"


class Verdict(_Word):
    """What a program says of a packet: leave it to the next one, or settle it."""

    NEXT = "next"
    PASS = "pass"
    DROP = "drop"
    REDIRECT = "redirect"


class ChangeKind(_Word):
    """What can happen to a device."""

    UP = "up"
    DOWN = "down"
    RENAMED = "renamed"
    MOVED = "moved"
    DELETED = "deleted"
    POLICY = "policy"
