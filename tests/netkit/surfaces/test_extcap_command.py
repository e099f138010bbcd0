"""netkit-bpf extcap under tshark: pairs are listed and captured on, and nothing is left when it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from container import cgroup_mount, container
from netkit_bpf import CaptureFile, NetkitPair, NetNS

EXTCAP = [sys.executable, "-m", "netkit_bpf", "extcap"]


@pytest.fixture
def pair() -> Iterator[NetkitPair]:
    with NetNS.create() as here, NetNS.create() as there:
        with NetkitPair.create("nk0", netns=here, peer_netns=there) as pair:
            pair.primary.add_address("fd00::1/64")
            pair.peer.add_address("fd00::2/64")
            yield pair


def ping(pair: NetkitPair, count: int) -> None:
    pair.primary.netns.run(["ping", f"-c{count}", "-i0.01", "fd00::2"], check=True, stdout=subprocess.DEVNULL)


def wait_until_attached(pair: NetkitPair, attached: bool = True, side: str = "peer") -> None:
    end = time.monotonic() + 150  # tshark starts it four times
    while bool(pair.programs(side).programs) != attached:
        assert time.monotonic() < end
        time.sleep(0.2)  # an emulated machine has work to do


def test_tshark_captures_live_with_a_kernel_filter(pair: NetkitPair) -> None:
    here = pair.primary.netns
    subprocess.run([*EXTCAP, "--install", "system"], check=True)
    try:
        only = "icmp6[0] == 128"  # echo requests
        argv = ["tshark", "-i", "netkit-nk0", "-f", only, "-c", "3", "-l", "-T", "fields", "-e", "icmpv6.type"]
        argv += ["-e", "frame.interface_name"]
        with here.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as tshark:
            try:
                wait_until_attached(pair)
                ping(pair, 3)
                told, said = tshark.communicate(timeout=60)
            finally:
                tshark.terminate()
        assert tshark.returncode == 0, said
        assert told.decode().splitlines() == ["128\tnk0"] * 3
        assert "netkit pair nk0, l3" in said.decode()
        wait_until_attached(pair, False)
    finally:
        subprocess.run([*EXTCAP, "--uninstall", "system"], check=True)


@pytest.mark.parametrize(("interface", "end"), [("netkit-nk0", "SIGTERM"), ("netkit", "closed")])
def test_a_signal_and_a_closed_pipe_end_it_quietly(pair: NetkitPair, tmp_path: Path, end: str, interface: str) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    argv = [*EXTCAP, "--capture", "--extcap-interface", interface, "--fifo", str(fifo), "--sender", "primary"]
    with pair.primary.netns.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as extcap:
        with fifo.open("rb", buffering=0) as reader:
            wait_until_attached(pair, side="primary")
            if end == "SIGTERM":
                ping(pair, 2)
                extcap.send_signal(signal.SIGTERM)
                (tmp_path / "all").write_bytes(reader.readall())
        said, _ = extcap.communicate(timeout=60)  # with "closed", without a packet
    assert (extcap.returncode, said) == (0, b"")
    assert pair.programs("primary").programs == ()
    if end == "SIGTERM":
        with CaptureFile(tmp_path / "all") as file:
            assert {str(event.side) for batch in file for event in batch} == {"primary"}


@pytest.mark.parametrize(
    ("interface", "option", "end"), [("netkit-nk0", "--netns", "primary"), ("netkit", "--pid", "peer")]
)
def test_a_pair_of_another_namespace_is_captured_on(
    pair: NetkitPair, tmp_path: Path, interface: str, option: str, end: str
) -> None:
    with getattr(pair, end).netns.popen(["sleep", "300"]) as inhabitant:
        start = subprocess.Popen if option == "--netns" else pair.primary.netns.popen
        names = names_captured(pair, tmp_path, ["--extcap-interface", interface, option, str(inhabitant.pid)], start)
        inhabitant.kill()
    assert names == {"nk0"}


def test_the_pair_of_a_container_is_captured_on(tmp_path: Path) -> None:
    identity = "3f9a" * 16
    with cgroup_mount(tmp_path / "cgroup") as cgroups, NetNS.create() as here:
        with container(cgroups / "test.slice" / f"docker-{identity}.scope", tmp_path / "root") as pid:
            with (
                NetkitPair.create("nk1", netns=here),  # is no container's
                NetkitPair.create("nk2", peer_name="eth0", netns=here, peer_netns=NetNS.open(pid)) as pair,
            ):
                pair.primary.add_address("fd00::1/64")
                pair.peer.add_address("fd00::2/64")
                options = ["--extcap-interface", "netkit", "--container", identity[:12]]
                assert names_captured(pair, tmp_path, options, here.popen) == {"nk2"}


def names_captured(pair: NetkitPair, directory: Path, options: list[str], start: Callable[..., Any]) -> set[str | None]:
    """The names of the pairs whose packets arrive, while there is an echo request on this pair."""
    fifo = directory / "fifo"
    os.mkfifo(fifo)
    argv = [*EXTCAP, "--capture", "--fifo", str(fifo), *options]
    with start(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as extcap:
        with fifo.open("rb", buffering=0) as reader:
            wait_until_attached(pair)
            ping(pair, 1)
            extcap.send_signal(signal.SIGTERM)
            (directory / "all").write_bytes(reader.readall())
        said, _ = extcap.communicate(timeout=60)
    assert (extcap.returncode, said) == (0, b"")
    with CaptureFile(directory / "all") as file:
        return {event.pair_name for batch in file for event in batch}
