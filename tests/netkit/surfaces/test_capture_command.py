# SPDX-License-Identifier: MIT
"""netkit-bpf capture on a real pair: the file, the pipe, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit_bpf import NetkitPair, NetNS

COMMAND = [sys.executable, "-m", "netkit_bpf", "capture", "-i", "nk0"]


@pytest.fixture
def here() -> Iterator[NetNS]:
    """A namespace with a pair, whose peer is in another."""
    with NetNS.create() as here, NetNS.create() as there:
        with NetkitPair.create("nk0", netns=here, peer_netns=there) as pair:
            pair.primary.add_address("fd00::1/64")
            pair.peer.add_address("fd00::2/64")
            yield here


def start(here: NetNS, *arguments: str) -> subprocess.Popen[bytes]:
    """Start the command; it has attached once it says so."""
    process = here.popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr is not None
    assert process.stderr.readline() == b"netkit-bpf: capturing on nk0. Ctrl-C ends.\n"
    return process


def ping(here: NetNS) -> None:
    here.run(["ping", "-c2", "-i0.01", "fd00::2"], check=True, stdout=subprocess.DEVNULL)


def test_tcpdump_reads_what_was_captured(here: NetNS, tmp_path: Path) -> None:
    path = tmp_path / "ping.pcapng"
    process = start(here, "-c", "4", "-w", str(path), "icmp6[icmp6type]", "=", "icmp6-echo or icmp6[0] = 129")
    ping(here)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert said.startswith(b"netkit-bpf: 4 packets captured, ")
    assert said.endswith(b" 0 lost\n")
    read = subprocess.run(["tcpdump", "-nr", str(path)], capture_output=True, text=True, check=True)
    kinds = ["echo request" in line for line in read.stdout.splitlines()]
    assert kinds == [True, False, True, False]


def test_a_signal_ends_the_capture_and_the_pipe_has_it_whole(here: NetNS) -> None:
    process = start(here, "-w", "-", "-s", "62")
    ping(here)
    process.send_signal(signal.SIGINT)
    content, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b" packets captured, " in said
    read = subprocess.run(["tcpdump", "-nr", "-"], input=content, capture_output=True, check=True)
    assert read.stdout.count(b"echo request") == 2


def test_a_reader_that_has_gone_ends_the_command_without_a_word(here: NetNS) -> None:
    process = start(here, "-w", "-")
    assert process.stdout is not None
    process.stdout.close()
    ping(here)
    assert process.wait(timeout=60) == 0
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


def test_a_capture_ends_after_its_duration(here: NetNS, tmp_path: Path) -> None:
    process = start(here, "--duration", "1.5", "-w", str(tmp_path / "ping.pcapng"))
    ping(here)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b" packets captured, " in said
    assert (tmp_path / "ping.pcapng").stat().st_size > 0


def test_a_pipe_that_does_not_block_gets_everything(here: NetNS) -> None:
    """Also where its reader is slow: here it reads nothing until the pipe has been full for a while."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    process = here.popen([*COMMAND, "-c", "200", "-w", "-"], stdout=theirs, stderr=subprocess.PIPE)
    os.close(theirs)
    assert process.stderr is not None
    process.stderr.readline()
    here.run(["ping", "-c100", "-i0.002", "-s", "1300", "fd00::2"], check=True, stdout=subprocess.DEVNULL)
    with open(ours, "rb") as pipe:
        content = pipe.read()
    assert process.wait(timeout=60) == 0
    assert process.stderr.read().startswith(b"netkit-bpf: 200 packets captured, ")
    process.stderr.close()
    read = subprocess.run(["tcpdump", "-nr", "-"], input=content, capture_output=True, check=True)
    assert read.stdout.count(b"\n") == 200


def test_a_full_standard_output_is_named(here: NetNS) -> None:
    with open("/dev/full", "wb") as full:
        done = here.run([*COMMAND, "-w", "-"], stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 1
    assert done.stderr.endswith(b"netkit-bpf: write standard output: No space left on device\n")


def test_a_full_disk_and_a_bad_filter_are_said(here: NetNS) -> None:
    for arguments, message in (
        (["-w", "/dev/full"], b"write /dev/full: No space left on device\n"),
        (["-w", "-", "tcp", "prt", "80"], b"syntax error at 'prt', character 5\n"),
    ):
        done = here.run([*COMMAND, *arguments], capture_output=True, timeout=60)
        assert done.returncode == 1
        assert done.stderr.endswith(message)
