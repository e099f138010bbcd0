# SPDX-License-Identifier: MIT
"""netkit-bpf top and exporter on a real pair: the terminal, the pipe, the scrape, and how they end."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from netkit_bpf import NetkitPair, NetNS

COMMAND = [sys.executable, "-m", "netkit_bpf"]
PATIENCE = 120  # an emulated machine is slow


@pytest.fixture
def here() -> Iterator[NetNS]:
    """A namespace with a pair, whose peer is in another."""
    with NetNS.create() as here, NetNS.create() as there:
        with NetkitPair.create("nk0", netns=here, peer_netns=there) as pair:
            pair.primary.add_address("10.42.0.1/24")
            pair.peer.add_address("10.42.0.2/24")
            yield here


def pinging(here: NetNS) -> subprocess.Popen[bytes]:
    return here.popen(["ping", "-i0.05", "10.42.0.2"], stdout=subprocess.DEVNULL)


def read_until(terminal: int, wanted: bytes) -> bytes:
    """What is drawn until something is."""
    drawn = b""
    while wanted not in drawn:
        drawn += os.read(terminal, 65536)
    return drawn


@pytest.mark.parametrize("ending", ["q", "\x03", "SIGTERM"])
def test_top_draws_in_forty_columns_and_gives_the_terminal_back(here: NetNS, ending: str) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 40, 0, 0))
    before = termios.tcgetattr(theirs)
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [*COMMAND, "top", "nk0", "--interval", "0.5"]
    with pinging(here) as ping:
        process = here.popen(
            ["setsid", "--ctty", *command], stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=environment
        )
        drawn = read_until(ours, b"icmp 10.42.0.1 > 10.42.0.2")
        os.write(ours, b"p")
        drawn += read_until(ours, b"icmp 10.42.0.2 > 10.42.0.1")
        if ending == "SIGTERM":
            process.terminate()
        else:
            os.write(ours, ending.encode())
        read_until(ours, b"\x1b[?25h\x1b[?1049l")
        assert process.wait(PATIENCE) == 0
        ping.kill()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert termios.tcgetattr(theirs) == before
    assert drawn.startswith(b"\x1b[?1049h\x1b[?25l\x1b[H")
    for line in drawn.decode().split("\r\n"):
        for escape in ("\x1b[?1049h", "\x1b[?25l", "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[7m", "\x1b[m"):
            line = line.replace(escape, "\0")
        assert "\x1b" not in line
        assert max(map(len, line.split("\0"))) <= 40
    os.close(ours)
    os.close(theirs)


def test_top_prints_one_table_to_a_pipe(here: NetNS) -> None:
    with pinging(here) as ping:
        done = here.run([*COMMAND, "top", "nk0"], capture_output=True, text=True, timeout=PATIENCE)
        ping.kill()
    assert (done.returncode, done.stderr) == (0, "")
    title, heads, *flows = done.stdout.splitlines()
    assert title.startswith("nk0: ")
    assert heads.split() == ["flow", "pkt/s", "B/s", "bytes", "rtt", "ms", "flags"]
    assert {" ".join(line.split()[:5]) for line in flows} == {
        "primary icmp 10.42.0.1 > 10.42.0.2",
        "peer icmp 10.42.0.2 > 10.42.0.1",
    }
    assert "\x1b" not in done.stdout


def test_top_writes_json(here: NetNS) -> None:
    with pinging(here) as ping:
        command = [*COMMAND, "top", "nk0", "--json", "--count", "2", "--interval", "0.5", "--sort", "packets"]
        done = here.run(command, capture_output=True, text=True, timeout=PATIENCE)
        ping.kill()
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["type"] for line in lines] == ["flow", "flow", "total"] * 2
    assert {line["src"] for line in lines[:2]} == {"10.42.0.1", "10.42.0.2"}
    assert lines[2]["packets"] == sum(line["packets"] for line in lines[:2])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_exporter_is_scraped(here: NetNS, number: signal.Signals) -> None:
    command = [*COMMAND, "exporter", "--listen", "127.0.0.1:9435", "--network", "10.42.0.2/32"]
    here.run(["ip", "link", "set", "lo", "up"], check=True)
    process = here.popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.readline()
    assert said == "netkit-bpf: flows of nk0: http://127.0.0.1:9435/metrics. Ctrl-C ends.\n"
    here.run(["ping", "-c3", "-i0.05", "10.42.0.2"], check=True, stdout=subprocess.DEVNULL)

    def get() -> tuple[int, str, str]:
        connection = HTTPConnection("127.0.0.1", 9435, timeout=PATIENCE)
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, answer.headers["Content-Type"], text

    status, kind, text = here.call(get)
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    labels = 'dst_network="10.42.0.2/32",pair="nk0",protocol="icmp",side="primary",src_network="other"'
    assert f"netkit_flow_packets_total{{{labels}}} 3.0\n" in text
    busy = here.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert busy.returncode == 1
    assert "listen on 127.0.0.1:9435: Address already in use" in busy.stderr
    process.send_signal(number)
    assert process.wait(PATIENCE) == 0
    process.stderr.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["exporter", "--listen", "::1:9435"], "brackets"),
        (["exporter", "--listen", "9435"], "ADDRESS:PORT"),
        (["exporter", "--network", "10.0.0.1/8"], "host bits"),
        (["exporter", "--top", "1000", "nk0"], "top"),
        (["top", "--sort", "colour"], "invalid choice"),
        (["top", "nk1"], "there is no device nk1"),
    ],
)
def test_wrong_usage_is_told(here: NetNS, arguments: list[str], said: str) -> None:
    done = here.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) <= 2
