# SPDX-License-Identifier: MIT
"""netkit-bpf monitor and capture on a real pair, as people use tcpdump: lines, files, pipes, users, commands."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from netkit_bpf import NetkitPair, NetNS
from netkit_bpf.command import main
from netkit_bpf.command.output import note
from programs import load

COMMAND = [sys.executable, "-m", "netkit_bpf"]
Process = subprocess.Popen[bytes]


@pytest.fixture
def here() -> Iterator[NetNS]:
    """A namespace with a pair, whose peer is in another."""
    with NetNS.create() as here, NetNS.create() as there:
        with NetkitPair.create("nk0", netns=here, peer_netns=there) as pair:
            pair.primary.add_address("10.0.0.1/24")
            pair.peer.add_address("10.0.0.2/24")
            yield here


def start(here: NetNS, *arguments: str) -> Process:
    return here.popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def attached(process: Process) -> Process:
    """Wait until it has attached: it says so."""
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.endswith(b". Ctrl-C ends.\n"), line + process.stderr.read()
    return process


def ping(here: NetNS, count: int = 2, *more: str) -> None:
    command = ["ping", f"-c{count}", "-i0.01", *more, "10.0.0.2"]
    here.run(command, check=True, stdout=subprocess.DEVNULL)


def test_lines_of_many_habits_at_once(here: NetNS) -> None:
    lines = {
        "monitor -i nk0 -n -c 4 icmp": ["primary IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id ", ", seq 1, length 64"],
        "capture -i any -Q in -tc 2 icmp": ["peer    IP 10.0.0.2 > 10.0.0.1: ICMP echo reply, id "],
        "capture -nnvvXSs0 -i 1 -c 4 icmp": [
            "primary IP (tos 0x0, ttl 64, id ",
            "proto ICMP (1), length 84)\n    10.0.0.1 > 10.0.0.2: ICMP echo request, id ",
            "\t0x0000:  4500 0054 ",
        ],
        "monitor -ni nk0 --format classic -c 4 icmp": ["[primary] IPv4: 10.0.0.1 -> 10.0.0.2 | next=1 len=64 ttl=64"],
    }
    started = [start(here, *line.split()) for line in lines]
    for process in started:
        attached(process)
    ping(here, 4)
    for process, (line, expected) in zip(started, lines.items(), strict=True):
        out, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
        for each in expected:
            assert each in out.decode(), (line, out.decode())
        assert b" 0 lost\n" in said or b" lost=0 " in said
    done = here.run([*COMMAND, "monitor", "-D"], capture_output=True, text=True, check=True)
    assert done.stdout == "1.nk0 (peer out of reach, l3) [Up]\n"  # in a namespace without a name and a process


def test_any_means_pairs_that_come_too(here: NetNS, tmp_path: Path) -> None:
    lines = attached(start(here, "monitor", "-i", "any", "-n", "--json", "-c", "4", "icmp"))
    short = attached(start(here, "monitor", "-i", "any", "-q", "-c", "1", "icmp"))
    file = attached(start(here, "capture", "-i", "any", "-c", "4", "-w", f"{tmp_path}/any", "icmp"))
    with NetNS.create() as there, NetkitPair.create("nk1", netns=here, peer_netns=there) as pair:
        pair.primary.add_address("10.0.1.1/24")
        pair.peer.add_address("10.0.1.2/24")
        wait_until_attached(pair, 3)
        here.run(["ping", "-c1", "10.0.1.2"], check=True, stdout=subprocess.DEVNULL)
        ping(here, 1)
        out, said = lines.communicate(timeout=60)
        assert lines.returncode == 0, said
        events = [json.loads(line) for line in out.splitlines()]
        assert sorted(each["pair_name"] for each in events if each["type"] == "event") == ["nk0", "nk0", "nk1", "nk1"]
        assert b"netkit-bpf: nk1 added\n" in said
        assert b"nk1" not in short.communicate(timeout=60)[1]
        _, said = file.communicate(timeout=60)
        assert file.returncode == 0, said
    fields = ["-T", "fields", "-e", "frame.interface_id"]
    found = subprocess.run(["tshark", "-r", f"{tmp_path}/any", *fields], capture_output=True, text=True, check=True)
    assert len(set(found.stdout.split())) == 4


def wait_until_attached(pair: NetkitPair, count: int) -> None:
    """Until so many programs are on each hook."""
    end = time.monotonic() + 60
    while any(len(pair.hook(side).programs) < count for side in ("primary", "peer")):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_rotated_files_open_in_tshark(here: NetNS, tmp_path: Path) -> None:
    by_size = attached(start(here, "capture", "-i", "nk0", "-C", "1", "-W", "3", "-w", f"{tmp_path}/size", "icmp"))
    by_time = attached(start(here, "capture", "-i", "nk0", "-G", "1", "-W", "2", "-w", f"{tmp_path}/time-%s", "icmp"))
    ping(here, 1000, "-f", "-s", "1300")
    while by_time.poll() is None:
        ping(here, 1)
    assert by_time.wait(timeout=60) == 0
    by_size.send_signal(signal.SIGINT)
    for process in (by_size, by_time):
        process.communicate(timeout=60)
        assert process.returncode == 0
    names = sorted(each.name for each in tmp_path.iterdir())
    assert names[:3] == ["size0", "size1", "size2"]
    assert len(names) == 5
    assert all(name.startswith("time-") for name in names[3:])
    for name, has_packets in (("size1", True), (names[3], False)):  # a time may pass without a packet
        done = subprocess.run(["tshark", "-nr", tmp_path / name], capture_output=True, text=True, check=True)
        assert not has_packets or "Echo (ping)" in done.stdout


def test_pipes_end_quietly(here: NetNS) -> None:
    python = f"{sys.executable} -m netkit_bpf"
    lines = [
        (f"{python} capture -i nk0 -w - -U -c 4 icmp | tshark -nr -", b"Echo (ping) reply"),
        (f"{python} monitor -i nk0 -l -n icmp | head -n1", b"ICMP echo request"),
        (f"{python} monitor -i nk0 --json -c 4 icmp | jq -r .type", b"event\nevent\nevent\nevent\nstats\n"),
    ]
    started = [
        here.popen(["bash", "-c", f"set -o pipefail; {line}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for line, _ in lines
    ]
    for process in started:
        assert process.stderr is not None
        while not process.stderr.readline().endswith(b"Ctrl-C ends.\n"):
            assert process.poll() is None
    while any(process.poll() is None for process in started):
        ping(here)
    for process, (line, expected) in zip(started, lines, strict=True):
        out, said = process.communicate(timeout=60)
        assert process.returncode == 0, (line, said)
        assert expected in out, (line, out, said)
        assert b"Traceback" not in said
        assert b"Broken pipe" not in said


def test_privileges_are_dropped_before_a_file_is_written(here: NetNS, tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if parent.owner() == "root" and len(parent.parts) > 2:
            parent.chmod(0o755)
    line = f"capture -i nk0 -Z nobody -c 4 -w {tmp_path}/x --print icmp"
    process = attached(start(here, *line.split()))
    ping(here, 2)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert (tmp_path / "x").stat().st_uid == nobody.pw_uid
    assert out.count(b"ICMP echo") == 4
    assert b"4 packets captured, " in said


def test_it_comes_back_to_the_front(here: NetNS) -> None:
    process = attached(start(here, "monitor", "-i", "nk0", "-n", "--keep-first", "-c", "4", "icmp"))
    with NetkitPair.open("nk0", here) as pair, load() as others:
        hook = pair.hook("primary")
        with hook.attach(others.programs["pass"], before="all"):
            end = time.monotonic() + 60
            while hook.programs[0].name == "pass":
                assert time.monotonic() < end
                time.sleep(0.05)
            ping(here)
            out, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert sum(b"primary IP 10.0.0.1 > 10.0.0.2: ICMP echo request" in line for line in out.splitlines()) == 2
    assert len(out.splitlines()) == 4
    refused = here.run([*COMMAND, "monitor", "-i", "nk0", "--redirected"], capture_output=True)
    assert refused.returncode == 1
    assert b"lives in a network namespace that has no name and no process here" in refused.stderr


def test_it_watches_while_a_command_runs_and_ends_with_it(here: NetNS, tmp_path: Path) -> None:
    command = ["bash", "-c", "echo from the command; ping -qc2 -i0.01 10.0.0.2; exit 7"]
    process = start(here, "capture", "-i", "nk0", "-w", f"{tmp_path}/x", "--print", "-n", "icmp", "--", *command)
    out, said = process.communicate(timeout=60)
    assert process.returncode == 7, said
    assert b"from the command\n" in said
    assert b"the command ended with status 7\n" in said
    assert b"from the command" not in out
    read = subprocess.run(["tcpdump", "-ntr", tmp_path / "x"], capture_output=True, check=True)
    assert read.stdout.count(b"ICMP echo reply") == out.count(b"ICMP echo reply") == 2


def test_a_signal_ends_the_command_that_runs(here: NetNS) -> None:
    process = attached(start(here, "monitor", "-i", "nk0", "--", "sleep", "1000"))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize("line", ["monitor -i nk0", "capture -i nk0 -w -"])
def test_a_signal_that_comes_before_the_first_look_ends_it_as_a_later_one_does(
    line: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def note_late(text: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        note(text)

    with NetNS.create("nk-test-early") as here, NetkitPair.create("nk0", netns=here, peer_netns=here):
        monkeypatch.setattr("netkit_bpf.command.packets.watch.note", note_late)
        monkeypatch.setattr(sys, "argv", ["netkit-bpf", *line.split(), "--netns", "nk-test-early"])
        assert main() == 0
    assert " packets captured, " in capfd.readouterr().err


def test_a_second_signal_kills_a_command_that_ignores_the_first(here: NetNS) -> None:
    deaf = ["bash", "-c", "trap '' TERM; echo deaf >&2; exec sleep 1000"]
    process = attached(start(here, "monitor", "-i", "nk0", "--", *deaf))
    assert process.stderr is not None
    assert process.stderr.readline() == b"deaf\n"
    process.send_signal(signal.SIGTERM)
    assert b" packets captured" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGKILL
