# SPDX-License-Identifier: MIT
"""What tests of monitors share whose pairs come and go."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from netkit_bpf import NetkitPair
from veth import veth_pairs


@pytest.fixture
def pairs() -> Iterator[list[NetkitPair]]:
    """Three, up, which send nothing by themselves."""
    with veth_pairs(3, silent=True) as made:
        for pair in made:
            pair.primary.up()
            pair.peer.up()
        yield made
