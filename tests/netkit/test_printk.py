"""bpf_printk() on a real hook, read by the log of the package."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import netkit_bpf as nk
from programs import PRINTS, build


@pytest.fixture
def tracefs(tmp_path: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tracefs", "tracefs", tmp_path], check=True)
    yield
    subprocess.run(["umount", tmp_path], check=True)


def test_what_a_program_prints_of_a_packet_is_read(tracefs: None) -> None:
    obj = nk.BPFObject.open(build(PRINTS))
    obj.variables["pid"].value = os.getpid()
    with nk.NetNS.create() as here, nk.NetNS.create() as there, obj:
        with nk.NetkitPair.create("nk0", netns=here, peer_netns=there) as pair:
            pair.primary.add_address("10.42.0.1/24")
            with nk.trace_log(prefix=f"nktest {os.getpid()}: ") as log, pair.attach(obj.programs["prints"], "primary"):
                with here.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
                    out.sendto(b"x" * 18, ("10.42.0.2", 9))
                line = log.read(timeout=20.0)
    assert line is not None
    assert line.text == f"nktest {os.getpid()}: 60 bytes"
