"""What the command writes: odd names, slow readers, full disks, and an end by Ctrl-C at any time."""

from __future__ import annotations

import fcntl
import io
import json
import os
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest

from netkit_bpf._core import pcapng_section
from netkit_bpf.command.output import note, printable, say, say_json
from netkit_bpf.events.files.rotated_file import RotatedFile
from netkit_bpf.events.pcapng_file import BlockFile
from netkit_bpf.internal.writing import write_all

LARGE = 1 << 20
NAMES = [
    ("nk0", "nk0"),
    ("größe", "größe"),
    ("a\x1b[31mb", "a\\x1b[31mb"),
    ("two\nlines\t\r", "two\\nlines\\t\\r"),
    ("\x9b31m\x7f", "\\x9b31m\\x7f"),
    ("\u202etxt", "\\u202etxt"),
    (os.fsdecode(b"nk\xff"), "nk\\xff"),
]


@pytest.mark.parametrize(("name", "shown"), NAMES)
def test_a_terminal_is_told_nothing_that_it_would_obey(
    name: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert printable(name) == shown
    say(name, "second")
    assert capsys.readouterr().out == f"{shown}\nsecond\n"


def test_a_diagnostic_keeps_its_lines_and_escapes_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    note("one\nnetkit-bpf: two \x1b[2J")  # which does not look like one more
    assert capsys.readouterr().err == "netkit-bpf: one\n  netkit-bpf: two \\x1b[2J\n"


def test_json_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    say_json('{"name": "\x7f"}')
    assert capsys.readouterr().out == '{"name": "\x7f"}\n'


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "latin-1"])
def test_what_an_encoding_lacks_is_escaped(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", out)
    say("größe \u2192 \udcff")
    written = out.buffer.getvalue()
    assert written.decode(encoding).endswith("\\xff\n")
    assert written.startswith(b"gr\\xf6" if encoding == "ascii" else "grö".encode(encoding))


@pytest.mark.parametrize("buffering", [0, 8192])
def test_a_full_pipe_that_does_not_block_is_waited_for(buffering: int) -> None:
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    capacity = fcntl.fcntl(theirs, fcntl.F_GETPIPE_SZ)
    worked: list[float] = []

    def write() -> None:
        with open(theirs, "wb", buffering=buffering) as file:
            write_all(file, bytes(range(256)) * (LARGE // 256))
            worked.append(time.thread_time())

    thread = threading.Thread(target=write)
    thread.start()
    while struct.unpack("i", fcntl.ioctl(ours, termios.FIONREAD, bytes(4)))[0] < capacity:
        thread.join(0.001)
    thread.join(0.5)  # it waits, and does not try again and again
    with open(ours, "rb") as file:
        content = file.read()
    thread.join()
    assert content == bytes(range(256)) * (LARGE // 256)
    assert worked[0] < 0.25


def test_a_file_that_does_not_say_how_much_it_took_took_all() -> None:
    class Silent:
        def __init__(self) -> None:
            self.content = b""

        def write(self, data: bytes) -> None:
            self.content += bytes(data)

        def flush(self) -> None: ...

    file = Silent()
    write_all(file, b"whole")  # type: ignore[arg-type]
    assert file.content == b"whole"


def test_a_full_disk_is_told_with_the_name_of_what_is_full() -> None:
    with open(os.open("/dev/full", os.O_WRONLY), "wb", buffering=0) as nameless:
        with (
            BlockFile(nameless) as file,
            pytest.raises(OSError, match=r"write descriptor \d+: No space left on device"),
        ):
            file.write(b"x")
    with BlockFile("/dev/full") as file, pytest.raises(OSError, match="write /dev/full: No space left on device"):
        file.write(b"x")
    with RotatedFile("/dev/full") as rotated, BlockFile(rotated) as file:  # type: ignore[arg-type]
        with pytest.raises(OSError, match=r"write /dev/full: No space left on device$"):
            file.write(pcapng_section("x"))


@pytest.mark.parametrize("words", [["doctor"], ["doctor", "--json"], ["--help"], ["capture", "--help"]], ids=" ".join)
def test_a_full_disk_is_told_by_the_command(words: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "netkit_bpf", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "netkit-bpf: write to standard output: No space left on device\n"


INTERRUPTED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
class Interrupt:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
from netkit_bpf_command import main
sys.argv[1:] = ["doctor"]
sys.exit(main())
"""


@pytest.mark.parametrize(
    "module",
    ["netkit_bpf", "netkit_bpf._core", "netkit_bpf.events.batch", "netkit_bpf.command.doctor", "netkit_bpf.vm"],
)
def test_ctrl_c_while_the_command_is_imported_ends_it_without_a_word(module: str) -> None:
    command = [sys.executable, "-c", INTERRUPTED.format(module=module)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_script_begins_where_ctrl_c_is_heeded() -> None:
    script = Path(sys.executable).with_name("netkit-bpf").read_text()
    assert "from netkit_bpf_command import main" in script


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("pair delete nk-none --json", 1, "there is no device nk-none in this network namespace"),
        ("capture -r /nowhere --json", 1, "/nowhere: No such file or directory"),
        ("monitor -i nk0 -I --format json", 2, "-I: there is no 802.11 here; leave it out"),
        ("top --json --frobnicate", 2, "unrecognized arguments: --frobnicate"),
        ("exporter --json --top x", 2, "argument --top: must be a whole number, not 'x'"),
    ],
)
def test_an_error_is_json_where_json_is_asked_for(line: str, status: int, message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "netkit_bpf", *line.split()], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (status, "")
    said = json.loads(done.stdout)
    assert said["type"] == "error"
    assert said["status"] == status
    assert message in said["message"]
