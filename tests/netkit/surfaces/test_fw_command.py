# SPDX-License-Identifier: MIT
"""netkit-bpf fw: rules that outlive the command, and rules that end with it."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netkit_bpf import Side
from netkit_bpf.command import main
from pairs import pinnable_wire
from traffic import Wire, connect_and_send, ping

Command = Callable[..., str]
PLACE = "nk-test-fw"
SHORT = 0.3  # to wait for a reply that must not come
ECHO = "000000000000000000000000 86dd 6000000000083a40"
ECHO += "fd000000000000000000000000000001 fd000000000000000000000000000002 8000 0000 0001 0001"


@pytest.fixture
def wire() -> Iterator[Wire]:
    with pinnable_wire(PLACE) as made:
        yield made


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs fw on the pair; returns its output, or what it said beside that."""

    def run(*words: str, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["netkit-bpf", "fw", words[0], "nk0", *words[1:], "-n", PLACE])
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
        try:
            assert main() == status
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            for number, handler in handlers.items():
                signal.signal(number, handler)
        written = capsys.readouterr()
        return written.out or written.err

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rules.pf"


def echoes(wire: Wire) -> bool:
    return ping(wire.left, wire.right, [56], timeout=SHORT) == 1


def test_rules_are_loaded_shown_counted_explained_replaced_and_removed(
    wire: Wire, command: Command, file: Path
) -> None:
    ping_rule = 'drop primary icmp6 icmp-type echoreq label "no ping"'
    file.write_text(f"web = {{ 80, 443 }}\n{ping_rule}\npass tcp to any port $web\n")
    said = command("load", str(file), "--pin")
    place = said.rpartition(" ")[2].strip()
    assert said.startswith("netkit-bpf: 2 rules are in force on nk0, pinned at /sys/fs/bpf/netkit-bpf/firewall/")
    assert Path(place).is_dir()
    assert not echoes(wire)
    shown = command("show")
    default = "# what no rule matches: pass"
    assert shown.splitlines() == [ping_rule, "pass tcp from any to any port { 80, 443 }", default]
    counted = json.loads(command("counters", "--json"))
    assert [rule["packets"] for rule in counted["rules"]] == [1, 0]
    lines = command("counters").splitlines()
    assert lines[1].split()[0] == "1"
    assert lines[-1].endswith("# what no rule matches")
    assert command("explain", "primary", ECHO).startswith("drop: line 1: drop primary icmp6")
    assert json.loads(command("explain", "peer", ECHO, "--json")) == {"verdict": "next", "number": None, "rule": None}
    told = f"icmp6 from {wire.left.address} to {wire.right.address} icmp-type echoreq"
    assert command("explain", "primary", *told.split()) == command("explain", "primary", ECHO)

    file.write_text(shown)
    command("load", str(file), "--pin")  # what it prints can be loaded
    assert command("show") == shown
    assert json.loads(command("counters", "--json"))["rules"][0]["packets"] == 1  # those that stay keep theirs
    file.write_text("pass icmp6\n")
    command("load", str(file), "--pin", "--default", "drop")
    assert echoes(wire)
    found = json.loads(command("show", "--json"))
    assert found["default"] == "drop"
    assert found["pinned_at"] == place
    assert found["sets"] == {}
    assert (found["log_default"], found["established"]) == (False, False)

    assert command("flush") == ""
    assert not Path(place).exists()
    assert wire.pair.programs("peer").programs == ()
    advice = "netkit-bpf: no firewall is pinned on nk0: see netkit-bpf fw load --help\n"
    for words in (["show"], ["counters"], ["flush"], ["explain", "peer", ECHO]):
        assert command(*words, status=1) == advice


def test_events_of_the_pinned_rules_are_printed_and_counted(wire: Wire, command: Command, file: Path) -> None:
    file.write_text("pass primary log icmp6 icmp-type echoreq\n")
    command("load", str(file), "--pin", "--default", "pass")
    assert echoes(wire)
    line = f"[primary] IPv6: {wire.left.address} -> {wire.right.address} | next=58 len=64 ttl=64 | next: line 1: "
    assert command("events", "-c", "1").startswith(f"{line}pass primary log icmp6 icmp-type echoreq\n")
    assert echoes(wire)
    told, counted = map(json.loads, command("events", "--json", "-c", "1").splitlines())
    assert (counted["type"], counted["primary"]["lost"]) == ("stats", 0)
    assert (told["type"], told["verdict"], told["number"], told["side"]) == ("verdict", "next", 0, "primary")
    file.write_text("pass\n")
    command("load", str(file), "--pin", "--log-default")
    assert command("show").splitlines()[-1] == "# what no rule matches: pass log"
    command("flush")


def test_established_connections_pass_if_it_is_said_from_the_beginning(
    wire: Wire, command: Command, file: Path
) -> None:
    file.write_text("pass primary tcp\npass proto icmp6\n")
    command("load", str(file), "--pin", "--default", "drop")
    said = command("load", str(file), "--pin", "--established", status=1)
    assert said.endswith(" was made without established: remove it first (netkit-bpf fw flush)\n")
    command("flush")
    command("load", str(file), "--pin", "--default", "drop", "--established")
    connect_and_send(wire.left, wire.right, 10_000)
    counted = json.loads(command("counters", "--json"))
    assert counted["established"]["packets"] > 0
    assert counted["no_room"] == {"packets": 0, "bytes": 0, "limited": 0}
    assert command("counters").splitlines()[-2].endswith("# of established connections")
    command("load", str(file), "--pin", "--established")
    command("load", str(file), "--pin")  # it stays
    assert command("show").splitlines()[-1] == "# what no rule matches: drop; established connections pass"
    assert json.loads(command("show", "--json"))["established"] is True
    command("flush")


@pytest.mark.filterwarnings("default:.*never decides")
def test_what_is_wrong_is_said_with_its_place_and_the_old_rules_stay(wire: Wire, command: Command, file: Path) -> None:
    file.write_text("drop icmp6 icmp-type echoreq\n")
    command("load", str(file), "--pin")
    file.write_text("pass tcp\npass tcp from any prot 80\n")
    said = command("load", str(file), "--pin", status=1)
    assert said.startswith(f"netkit-bpf: {file}: line 2, column 19: ")
    assert command("load", "missing.pf", "--pin", status=1) == "netkit-bpf: missing.pf: No such file or directory\n"
    said = command("explain", "peer", "fd0x", status=1)
    assert said.startswith("netkit-bpf: line 1, column 1: expected ip, ip6, arp, a protocol")
    assert said.endswith("\n  or bytes in hexadecimal, from the Ethernet header on\n")
    assert "hexadecimal" not in command("explain", "peer", "arp", "log", status=1)
    assert not echoes(wire)
    file.write_text("pass\ndrop icmp6\n")
    said = command("load", str(file), "--pin", "--default", "pass")
    assert "line 2 (drop icmp6) never decides: line 1 (pass)" in said
    command("flush")


def test_a_pin_path_is_where_the_rules_are(wire: Wire, command: Command, file: Path) -> None:
    file.write_text("pass\n")
    place = "/sys/fs/bpf/of_mine"
    assert place in command("load", str(file), "--pin-path", place)
    command("show", status=1)
    assert command("show", "--pin-path", place).startswith("pass\n")
    command("flush", "--pin-path", place)
    assert not Path(place).exists()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_waiting_for_another_process_is_ended_by_signals(
    wire: Wire, command: Command, file: Path, end: signal.Signals
) -> None:
    file.write_text("pass\n")
    place = "/sys/fs/bpf/of_mine"
    command("load", str(file), "--pin-path", place)
    file.write_text("drop\n")
    held = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        argv = [sys.executable, "-m", "netkit_bpf", "fw", "load", "nk0", str(file), "--pin-path", place, "-n", PLACE]
        with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
            waits = Path(f"/proc/{process.pid}/wchan")
            deadline = time.monotonic() + 60
            while "lock" not in waits.read_text():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(end)
            assert process.wait(60) == 130
    finally:
        os.close(held)
    assert command("show", "--pin-path", place).startswith("pass\n")
    command("flush", "--pin-path", place)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_without_a_pin_the_rules_end_with_the_command_and_a_blackhole_is_shut(wire: Wire, end: signal.Signals) -> None:
    for side in Side:
        wire.pair.set_policy("blackhole", side=side)
    argv = [sys.executable, "-m", "netkit_bpf", "fw", "load", "nk0", "--netns", PLACE]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write("pass icmp6\n")
        process.stdin.close()
        said = process.stderr.readline()
        assert said == "netkit-bpf: 1 rule is in force on nk0. Ctrl-C ends and removes them.\n"
        assert echoes(wire)
        process.send_signal(end)
        assert process.wait(60) == (-end if end is signal.SIGKILL else 0)
    assert not echoes(wire)
    assert wire.pair.programs("peer").programs == ()


def test_events_end_when_the_pair_does(wire: Wire, command: Command, file: Path) -> None:
    file.write_text("pass primary log icmp6 icmp-type echoreq\n")
    command("load", str(file), "--pin")
    argv = [sys.executable, "-m", "netkit_bpf", "fw", "events", "nk0", "--netns", PLACE]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while not select.select([process.stdout], [], [], 0)[0]:
            assert echoes(wire)
        wire.pair.delete()
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert said.splitlines()[-1].startswith("netkit-bpf: firewall nk0: No such device (the device")
