"""bpf_printk() on a real hook, read by the log of the package."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import netkit_bpf as nk
from tracing import LINE, OURS, mounted_tracefs, printing


@pytest.fixture
def tracefs(tmp_path: Path) -> Iterator[None]:
    with mounted_tracefs(tmp_path):
        yield


def test_what_a_program_prints_of_a_packet_is_read(tracefs: None) -> None:
    with nk.NetNS.create() as here, nk.NetNS.create() as there, printing() as obj:
        with nk.NetkitPair.create("nk0", netns=here, peer_netns=there) as pair:
            pair.primary.add_address("10.42.0.1/24")
            with nk.trace_log(prefix=f"{OURS}: ") as log, pair.attach(obj.programs["prints"], "primary"):
                with here.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
                    out.sendto(b"x" * 18, ("10.42.0.2", 9))
                line = log.read(timeout=20.0)
    assert line is not None
    assert line.text == LINE
