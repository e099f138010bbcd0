"""A veth pair, whose tcx hooks take netkit programs, and programs to put there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from netkit_bpf import (
    BPFObject,
    Device,
    NetkitPair,
    NetNS,
    Program,
)
from programs import load
from veth import veth_pair


@pytest.fixture
def pair() -> Iterator[NetkitPair]:
    with NetNS.create() as here, NetNS.create() as there, veth_pair(here, there) as made:
        yield made


@pytest.fixture
def device(pair: NetkitPair) -> Device:
    return pair.primary


@pytest.fixture
def obj() -> Iterator[BPFObject]:
    with load() as loaded:
        yield loaded


@pytest.fixture
def first(obj: BPFObject) -> Program:
    return obj.programs["first"]


@pytest.fixture
def second(obj: BPFObject) -> Program:
    return obj.programs["second"]


@pytest.fixture
def third(obj: BPFObject) -> Program:
    return obj.programs["third"]
