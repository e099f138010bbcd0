# SPDX-License-Identifier: MIT
"""netkit-bpf lb: a service for as long as it runs, and what its input changes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pairs import makes
from service import PORT, Service, service


@contextmanager
def running(made: Service, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The command among the pairs; the line that it begins with is read."""
    argv = [sys.executable, "-m", "netkit_bpf", "lb", "cl", "--vip", made.vip, "--port", str(PORT), *options]
    pipe = subprocess.PIPE
    with made.pair.primary.netns.popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True, bufsize=1) as process:
        try:
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline()


def shown(process: subprocess.Popen[str], *lines: str) -> dict[str, Any]:
    """What it shows once it has obeyed the lines."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("".join(f"{line}\n" for line in (*lines, "show")))
    process.stdin.flush()
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


def test_the_command_balances_and_obeys_until_it_is_ended() -> None:
    with service(4, 2, makes("l3")) as made, running(made, "--json", "--backend=b1,address=10.0.1.2") as process:
        assert "LoadBalancer tcp 192.0.2.80:80 (nat) 1 backends" in told(process)
        assert made.ask() == "b1"
        state = shown(process, "add b2,weight=3,address=10.0.2.2,port=80", "drain b1")
        assert [(each["backend"], each["state"], each["weight"]) for each in state["backends"]] == [
            ("b1", "draining", 1),
            ("b2", "active", 3),
        ]
        assert made.ask() == "b2"
        state = shown(process, "remove b1")
        while len(state["backends"]) > 1:  # until its connection has been over for a second
            time.sleep(0.1)
            state = shown(process)
        assert [(each["backend"], each["connections"]) for each in state["backends"]] == [("b2", 1)]
        shown(process, "drain nobody", "dance")
        assert "there is no device nobody" in told(process)
        assert "'dance' is not add, drain, remove or show" in told(process)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["backends"][0]["backend"] == "b2"
        assert process.wait() == 0
        for pair in (made.pair, *made.backends):
            assert pair.programs("peer").programs == ()


def test_a_backend_that_is_deleted_is_let_go_of_without_being_asked_for() -> None:
    options = ["--json", *(f"--backend=b{number},address=10.0.{number}.2" for number in (1, 2))]
    with service(4, 2, makes("l3")) as made, running(made, *options) as process:
        assert "2 backends" in told(process)
        with made.connect() as cut:
            made.backends[int(cut.recv(2)[1:]) - 1].delete()
            cut.sendall(b"?")
            with pytest.raises(ConnectionResetError):  # by the other one, which does not know it
                cut.recv(1)
        assert len(shown(process)["backends"]) == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--backend", "b1,weight=heavy"], "backend 'b1,weight=heavy': weight must be a whole number, not 'heavy'"),
        (["--backend", "b1,colour=red"], "'colour=red' must be weight=N, address=ADDRESS or port=N, each once"),
        (["--backend", "b7"], "there is no device b7 in this network namespace"),
        (["--backend", "b1", "--mode", "dsr", "--port", "70000"], "port must be 1 to 65535, not 70000"),
    ],
)
def test_what_cannot_be_is_one_line(options: list[str], text: str) -> None:
    with service(4, 1, makes("l3")) as made, running(made, *options) as process:
        assert text in told(process)
        assert process.wait() == 1


def test_the_last_line_of_input_needs_no_newline() -> None:
    with service(4, 1, makes("l3")) as made, running(made, "--json", "--backend=b1,address=10.0.1.2") as process:
        assert "1 backends" in told(process)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("drain b1\nshow")
        process.stdin.close()
        assert json.loads(process.stdout.readline())["backends"][0]["state"] == "draining"


def test_a_warning_is_one_line_without_a_place_in_python() -> None:
    with service(4, 1, makes("l3")) as made, made.ends[0].netns.popen(["sleep", "infinity"]) as holder:
        with running(made, "--backend", "b1", "--mode", "dsr") as process:  # it finds the namespace by the holder
            said = told(process)
            holder.kill()
        peer = made.backends[0].peer.name
        assert said == f"netkit-bpf: 192.0.2.80 is an address of neither lo nor {peer}: nobody may answer there\n"
