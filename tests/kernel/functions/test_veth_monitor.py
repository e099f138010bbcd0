"""The whole path on a kernel without netkit: the same programs on the tcx hooks of a veth pair, real traffic."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import scenarios
from elsewhere import needs_tcx
from traffic import Wire
from veth import veth_wire

pytestmark = needs_tcx


@pytest.fixture(params=[6, 4], ids=["IPv6", "IPv4"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    with veth_wire(request.param) as made:
        yield made


@pytest.mark.parametrize("scenario", scenarios.ALL, ids=lambda scenario: scenario.__name__)
def test_on_veth(scenario: Callable[[Wire], None], wire: Wire) -> None:
    scenario(wire)
