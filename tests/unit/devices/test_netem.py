"""The arguments of a lab's links."""

from __future__ import annotations

from typing import Any

import pytest

from netkit_bpf.lab.netem import Netem

PERFECT: dict[str, Any] = {"delay": 0, "jitter": 0, "loss": 0, "rate": None, "limit": 1000}


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"delay": "20ms"}, "delay_ns", 20_000_000),
        ({"delay": "1.5 s"}, "delay_ns", 1_500_000_000),
        ({"delay": 0.0003}, "delay_ns", 300_000),
        ({"delay": "300us", "jitter": "20us"}, "jitter_ns", 20_000),
        ({"loss": 0.01}, "loss", 0.01),
        ({"rate": "100mbit"}, "rate", 12_500_000),
        ({"rate": "1Gbit"}, "rate", 125_000_000),
        ({"rate": 64_000}, "rate", 8_000),
    ],
)
def test_units(given: dict[str, Any], field: str, value: float) -> None:
    assert getattr(Netem.checked(**{**PERFECT, **given}), field) == value


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        ({"delay": "20"}, ValueError, "delay must be a number or a text as '20ms', not '20'"),
        ({"delay": "20mbit"}, ValueError, "delay must be a number or a text as '20ms'"),
        ({"delay": -1}, ValueError, "delay must be 0 to 3600 seconds, not -1"),
        ({"delay": float("nan")}, ValueError, "delay must be a finite number, not nan"),
        ({"delay": None}, TypeError, "delay must be a number or a str, not NoneType"),
        ({"jitter": "1ms"}, ValueError, r"jitter must not be longer than delay: 0\.001 s and 0 s"),
        ({"loss": 1.5}, ValueError, r"loss is a share of the packets, 0 to 1, not 1\.5"),
        ({"loss": "1%"}, TypeError, "loss must be a number, not str"),
        ({"rate": 0}, ValueError, "rate must be 8 to 1e.12 bits per second, not 0"),
        ({"rate": "20ms"}, ValueError, "rate must be a number or a text as '20kbit', not '20ms'"),
        ({"limit": 0}, ValueError, "limit must be 1 to 4294967295, not 0"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        Netem.checked(**{**PERFECT, **given})
