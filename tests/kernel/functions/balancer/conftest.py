# SPDX-License-Identifier: MIT
"""A service of three servers on veth pairs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from balancing import Wired
from service import Service, service


@pytest.fixture(params=[(4, "nat"), (6, "nat"), (4, "dsr"), (6, "dsr")], ids=lambda value: f"ipv{value[0]}-{value[1]}")
def wired(request: pytest.FixtureRequest) -> Iterator[Wired]:
    version, way = request.param
    with service(version, 3, dsr=way == "dsr") as made:
        yield Wired(made, way)


@pytest.fixture
def made() -> Iterator[Service]:
    with service(4, 3) as made:
        yield made
