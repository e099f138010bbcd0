# SPDX-License-Identifier: MIT
"""These tests load BPF programs, so they need root. No netkit device is needed: the kernel runs them on our frames."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from native import Native, why_no_bpf
from traffic import Wire
from veth import veth_wire


@pytest.fixture(scope="session", autouse=True)
def privilege() -> None:
    """Skip, and say why, where programs cannot be loaded."""
    if reason := why_no_bpf():
        pytest.skip(reason)


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[Path]:
    """A BPF file system of the test's own."""
    subprocess.run(["mount", "-t", "bpf", "bpf", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


@pytest.fixture
def wire() -> Iterator[Wire]:
    """A veth pair, whose tcx hooks take netkit programs, with addresses of IPv4."""
    with veth_wire(4) as made:
        yield made


@pytest.fixture(scope="session")
def native(privilege: None) -> Iterator[Native]:
    """The programs, loaded once for the session, with a ring that loses nothing."""
    with Native() as loaded:
        yield loaded
        for seen, delivered, lost, pending in loaded.stream.stats():
            assert (lost, pending) == (0, 0)
            assert seen == delivered
