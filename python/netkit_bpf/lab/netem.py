# SPDX-License-Identifier: MIT
"""Delay, loss and rate of a link: tc-netem(8)."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from netkit_bpf._core import netem_remove, netem_set
from netkit_bpf.devices.device import Device
from netkit_bpf.internal.arguments import expect_in

_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_BITS = {"bit": 1.0, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
_LONGEST = 3600.0  # seconds
_FASTEST = 1e12  # bits per second


class Netem(NamedTuple):
    """What a device does with the packets that it sends, before its hook sees them."""

    delay_ns: int
    jitter_ns: int
    loss: float
    rate: int  # bytes per second; 0: no limit
    limit: int  # packets

    @classmethod
    def checked(
        cls, delay: float | str, jitter: float | str, loss: float, rate: float | str | None, limit: int
    ) -> Netem:
        """Check the arguments of `Lab.link`."""
        seconds = [_number(value, name, _SECONDS) for value, name in ((delay, "delay"), (jitter, "jitter"))]
        for value, name in zip(seconds, ("delay", "jitter"), strict=True):
            if not 0 <= value <= _LONGEST:
                raise ValueError(f"{name} must be 0 to {_LONGEST:g} seconds, not {value:g}")
        if seconds[1] > seconds[0]:
            raise ValueError(f"jitter must not be longer than delay: {seconds[1]:g} s and {seconds[0]:g} s")
        share = _number(loss, "loss", {})
        if not 0 <= share <= 1:
            raise ValueError(f"loss is a share of the packets, 0 to 1, not {share:g}")
        bits = 0.0 if rate is None else _number(rate, "rate", _BITS)
        if rate is not None and not 8 <= bits <= _FASTEST:
            raise ValueError(f"rate must be 8 to {_FASTEST:g} bits per second, not {bits:g}")
        delay_ns, jitter_ns = (round(value * 1e9) for value in seconds)
        return cls(delay_ns, jitter_ns, share, int(bits / 8), expect_in(limit, range(1, 1 << 32), "limit"))

    def words(self) -> dict[str, float | int]:
        """What differs from a perfect link, as `checked` takes it."""
        words = {
            "delay": self.delay_ns / 1e9,
            "jitter": self.jitter_ns / 1e9,
            "loss": self.loss,
            "rate": self.rate * 8,
            "limit": self.limit,
        }
        return {word: value for word, value in words.items() if value != (LIMIT if word == "limit" else 0)}

    def __str__(self) -> str:
        delay = f"{self.delay_ns / 1e6:g} ms{f' ± {self.jitter_ns / 1e6:g}' if self.jitter_ns else ''}"
        parts = {
            delay: self.delay_ns,
            f"loss {self.loss:.3g}": self.loss,
            f"{self.rate * 8 / 1e6:g} Mbit/s": self.rate,
        }
        return ", ".join(part for part, present in parts.items() if present)

    def put_on(self, device: Device) -> None:
        """Let the device do so from now on, instead of what it did."""
        netlink, ref = device._verified()
        if self == PERFECT:
            netem_remove(netlink, ref)
        else:
            netem_set(netlink, ref, *self)


LIMIT = 1000  # packets, as tc(8) has it
PERFECT = Netem(0, 0, 0.0, 0, LIMIT)


def _number(value: float | str, argument: str, units: dict[str, float]) -> float:
    """The number of seconds, of bits per second, or a plain one."""
    if isinstance(value, str) and units:
        parts = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([a-z]+)", value.strip().lower())
        if parts is None or parts[2] not in units:
            raise ValueError(f"{argument} must be a number or a text as '20{list(units)[1]}', not {value!r}")
        return float(parts[1]) * units[parts[2]]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{argument} must be a number{' or a str' if units else ''}, not {type(value).__name__}")
    if not math.isfinite(value):
        raise ValueError(f"{argument} must be a finite number, not {value}")
    return float(value)
