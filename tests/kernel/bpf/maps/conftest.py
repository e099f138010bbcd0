"""Maps of every type, in a program that uses them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from map_programs import SOURCE
from netkit_bpf import BPFObject, Map
from programs import build


@pytest.fixture
def loaded() -> Iterator[BPFObject]:
    with BPFObject.open(build(SOURCE)) as obj:
        yield obj


@pytest.fixture
def maps(loaded: BPFObject) -> dict[str, Map]:
    return dict(loaded.maps)
