"""Command lines as people type them for tcpdump, with a file to read: what is printed is what tcpdump prints."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from conversation import frames, pcap
from elsewhere import need
from netkit_bpf.command import main

READING = [  # FILE is the capture file
    "-n -r FILE",
    "-nn -r FILE",
    "-nr FILE",
    "-nnr FILE tcp",
    "-n -r FILE tcp port 443",
    "-r FILE -nn port 443 and host 10.0.0.2",
    "tcp -n -r FILE",
    "-nr FILE src host 10.0.0.1 and dst port 443",
    "-nr FILE net 10.0.0.0/8",
    "-nr FILE icmp or icmp6",
    "-nr FILE udp and portrange 40000-40100",
    "-nr FILE tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "-nr FILE ip6 and not tcp",
    "-nr FILE greater 100",
    "-nr FILE -c 3",
    "-c3 -nr FILE",
    "-tnr FILE",
    "-ttnr FILE",
    "-tttnr FILE",
    "-ttttnr FILE",
    "-tttttnr FILE",
    "-qnr FILE",
    "-enr FILE",
    "-enr FILE arp",
    "-Anr FILE tcp port 443",
    "-xnr FILE icmp",
    "-XnnSs0 -r FILE icmp",
    "-xxnr FILE ip6",
    "-XXnr FILE arp",
    "-Snr FILE tcp",
    "-#nr FILE",
    "--number -nr FILE -c 2",
    "-lnr FILE",
    "-UnKpr FILE",
    "--nano -nr FILE",
    "--time-stamp-precision=nano -nr FILE",
    "-nvr FILE tcp or udp or arp",
    "-nnvvXSr FILE tcp",
    "-nevr FILE tcp port 9",
    "-nN --immediate-mode -r FILE",
]


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "capture.pcap"
    path.write_bytes(pcap(list(frames().values())))
    return path


@pytest.fixture(autouse=True)
def undone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def words_of(line: str, capture: Path) -> list[str]:
    """Split as a shell would with an expression in quotes: what parentheses and & stand in is one word."""
    before, _, rest = line.partition(" tcp[")
    words = [*before.split(), *([f"tcp[{rest}"] if rest else [])]
    return [str(capture) if word == "FILE" else word for word in words]


def without_checksums(text: str) -> str:
    """Take out what tcpdump says of checksums, and the empty words that it leaves."""
    text = re.sub(
        r" \[(tcp|udp|icmp6) sum ok\]| \[bad udp cksum[^]]*\]| \[no cksum\]|, bad cksum [^)]*\)!?(?=\))", "", text
    )
    return re.sub(r", cksum 0x[0-9a-f]+ \([^)]*\)|, wrong icmp cksum [^,]*\)!?", "", text)


@pytest.mark.parametrize("line", READING)
def test_a_file_reads_as_in_tcpdump(
    line: str,
    capture: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    need("tcpdump")
    words = words_of(line, capture)
    theirs = subprocess.run(["tcpdump", *words], capture_output=True, text=True, check=True).stdout
    theirs = theirs.replace(":  ip-proto", ": ip-proto").replace(",  unreachable", ", unreachable")
    if "v" in line.split(" ")[0]:
        theirs = without_checksums(theirs)
    assert theirs
    for subcommand in ("capture", "monitor"):
        monkeypatch.setattr(sys, "argv", ["netkit-bpf", subcommand, *words])
        assert main() == 0
        assert capfdbinary.readouterr().out.decode().splitlines() == theirs.splitlines()


@pytest.mark.needs("tcpdump")
@pytest.mark.parametrize("cut", [16, 20, 34, 38, 46, 54, 58, 66, 74])
def test_what_was_not_captured_is_marked_as_in_tcpdump(
    cut: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Unless the line says all the same what it says of the whole packet."""
    lines = []
    for name, size in (("whole", 65535), ("cut", cut)):
        path = tmp_path / name
        path.write_bytes(pcap(list(frames().values()), cut=size))
        monkeypatch.setattr(sys, "argv", ["netkit-bpf", "capture", "-nt", "-r", str(path)])
        assert main() == 0
        lines.append(capfdbinary.readouterr().out.decode().splitlines())
    theirs = subprocess.run(["tcpdump", "-nt", "-r", path], capture_output=True, text=True, check=True).stdout
    assert sum("[|" in line for line in lines[1]) > 5
    for whole, line, their in zip(*lines, theirs.splitlines(), strict=True):
        assert ("[|" in line) != (line == whole)
        assert "[|" in their or line == whole
        assert line == whole or line.partition("[|")[2] == their.partition("[|")[2].removesuffix(">")


def test_a_file_goes_through_pipes(capture: Path) -> None:
    python = f"{sys.executable} -m netkit_bpf"
    line = f"{python} capture -r {capture} -w - tcp | {python} monitor -r - -nt ip6 | head -n 2"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert [each.partition(", options")[0] for each in done.stdout.splitlines()] == [
        "IP6 fd00::1.51000 > fd00::2.443: Flags [S], seq 1000, win 64240",
        "IP6 fd00::2.443 > fd00::1.51000: Flags [S.], seq 2000, ack 1001, win 64240",
    ]
