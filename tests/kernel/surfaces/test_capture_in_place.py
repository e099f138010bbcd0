# SPDX-License-Identifier: MIT
"""netkit-bpf capture and monitor, run in the test's process on a veth pair: files, commands that run, signals."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from capture_file import CaptureFile
from elsewhere import needs_tcx
from netkit_bpf import NetkitPair, NetNS, NotSupportedError, Side
from netkit_bpf.command import main
from veth import veth_pair

pytestmark = needs_tcx

RECEIVED, LOST, ACCEPTED, DELIVERED = 4, 5, 6, 8  # options of statistics
Command = Callable[..., int]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """The command, but for which pairs there are: a veth pair is none. Pings go between its ends all the time."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with NetNS.create("nk-test-capture") as here, NetNS.create() as there, veth_pair(here, there) as pair:
        pair.primary.add_address("10.42.0.1/24")
        pair.peer.add_address("10.42.0.2/24")
        monkeypatch.setattr("netkit_bpf.command.packets.watch.open_chosen", lambda _: ([pair], tuple(Side)))

        def run(*words: str) -> int:
            monkeypatch.setattr(sys, "argv", ["netkit-bpf", words[0], "--netns", "nk-test-capture", *words[1:]])
            return main()

        with here.popen(["ping", "-i0.05", "10.42.0.2"], stdout=subprocess.DEVNULL) as pings:
            yield run
            pings.kill()


@pytest.mark.parametrize(
    "more", [(), ("--print",), ("--", "sleep", "1"), ("--print", "--", "sleep", "1")], ids=" ".join
)
def test_a_file_has_the_counts_and_the_snaplen_however_it_is_written(
    more: tuple[str, ...], command: Command, tmp_path: Path
) -> None:
    words = ("-c", "4") if "--" not in more else ()
    assert (
        command("capture", "--netns", "nk-test-capture", "-s", "60", "-w", f"{tmp_path}/x", *words, "icmp", *more) == 0
    )
    file = CaptureFile(tmp_path / "x")
    assert [each.snaplen for each in file.interfaces] == [60, 60]
    for side, counts in file.statistics.items():
        delivered = sum(packet.interface == side for packet in file.packets)
        assert counts[LOST] == 0
        assert counts[RECEIVED] >= counts[ACCEPTED] >= counts[DELIVERED] == delivered > 0
    assert len(file.statistics) == 2


def test_it_ends_with_the_command_though_packets_go_on(
    command: Command, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "filter").open("w") as file:
        file.write("icmp or icmp6 or udp")
    assert command("monitor", "-i", "nk0", "-F", f"{tmp_path}/filter", "--json", "--", "sleep", "0.3") == 0
    assert capfd.readouterr().out.count('"event"') > 2


def test_a_command_does_not_start_where_the_file_cannot_be_opened(
    command: Command, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for more in ((), ("-C", "1"), ("--print",)):
        words = ("-w", f"{tmp_path}/no/such", *more, "--", "touch", f"{tmp_path}/started")
        assert command("capture", *words) == 1
        assert capfd.readouterr() == ("", f"netkit-bpf: {tmp_path}/no/such: No such file or directory\n")
    assert list(tmp_path.iterdir()) == []


def test_a_limit_ends_the_command_and_that_is_a_success(
    command: Command, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for limit in (("-c", "2"), ("--duration", "0.3"), ("-G", "1", "-W", "1", "-w", f"{tmp_path}/x")):
        assert command("capture", *limit, "icmp", "--", "sleep", "1000") == 0
        said = capfd.readouterr().err.splitlines()
        assert said[-1] == "netkit-bpf: the command was ended: all that was asked for was captured"
    assert command("capture", "-c", "1", "tcp", "--", "false") == 1
    assert capfd.readouterr().err.splitlines()[-1] == "netkit-bpf: the command ended with status 1"


@pytest.mark.parametrize("more", [(), ("-w", "/dev/null"), ("--", "sleep", "1")], ids=" ".join)
def test_usr1_asks_for_the_counts_and_it_goes_on(
    more: tuple[str, ...], command: Command, capfd: pytest.CaptureFixture[str]
) -> None:
    def ask() -> None:
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            os.kill(os.getpid(), number)

    timer = threading.Timer(0.5, ask)
    timer.start()
    assert command("capture", *(() if "--" in more else ("--duration", "1")), "icmp", *more) == 0
    timer.join()
    said = [line for line in capfd.readouterr().err.splitlines() if " packets captured, " in line]
    assert len(said) == 2
    assert int(said[0].split()[1]) < int(said[1].split()[1])


@pytest.mark.parametrize("subcommand", ["monitor", "capture"])
def test_any_does_not_wait_for_pairs_that_no_kernel_here_can_make(
    subcommand: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotSupportedError(errno.EOPNOTSUPP, "netkit devices: needs Linux 6.7", "netkit devices", "6.7", "6.6")

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr("netkit_bpf.command.packets.source.pairs", lambda _: [])
    monkeypatch.setattr(NetkitPair, "create", refuse)
    monkeypatch.setattr(sys, "argv", ["netkit-bpf", subcommand, "-i", "any", "--duration", "1"])
    assert main() == 1
    assert capfd.readouterr() == ("", "netkit-bpf: netkit devices: needs Linux 6.7\n")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("-B", "4", "-w", "/dev/null"), "-B: a packet of 262144 bytes (-s) needs 512 KiB, not 4"),
        (("-B", "1048577"), "-B must be 1048576 KiB at most, not 1048577"),
        (("inbound",), "-Q in and -Q out choose by a packet's direction: leave inbound and outbound out"),
    ],
)
def test_errors_are_in_the_words_of_the_options(
    words: tuple[str, ...], text: str, command: Command, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command("capture", *words) == 1
    assert capfd.readouterr() == ("", f"netkit-bpf: {text}\n")
    assert command("capture", "-B", "4", "-c", "1") == 0


def test_a_full_disk_does_not_change_what_was_captured(
    command: Command, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert command("capture", "icmp") == 1
        said = capfd.readouterr().err.splitlines()
    assert int(said[1].removeprefix("netkit-bpf: ").split(" packets captured, ")[0]) > 0
    assert said[2] == "netkit-bpf: write to standard output: No space left on device"
