# SPDX-License-Identifier: MIT
"""Guests that outlive who asked for them, so that the next one need not boot: one command, run again and again.

Each is known by its whole setup, and whoever asks for another setup gets another guest. It belongs to a process of its
own (keeper.py) and ends with it. Each run of the command, a round, sees the host's files as they are then; what is
shared by all rounds is the kernel, with its modules and system controls.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from netkit_bpf import vm
from netkit_bpf.vm import keeper

IDLE = 600.0  # seconds after its last round that a guest is kept
_LIFETIME = 1e6  # its keeper ends it
_HERE = Path(__file__).parent
_BUSYBOX = "/run/vm/busybox"


class KeptError(Exception):
    """Guests cannot be kept here; the text says why."""


class Kept:
    """A round in a kept guest: `requests` is the command's input, `answers` its output and `stderr` what else it says.

    The last line of `answers` is `{"ended": STATUS}`, or `{"vm": "gone", "status": STATUS}` if the guest ended.
    """

    def __init__(self, connection: socket.socket, directory: Path) -> None:
        self._connection = connection
        self.requests = connection.makefile("wb")
        self.answers = connection.makefile("rb")
        self.console = directory / "console"
        self.stderr = (directory / "stderr").open("rb")
        self.stderr.seek(0, os.SEEK_END)

    def close(self, *, keep: bool) -> None:
        """End the round; the guest too unless it is to be kept."""
        with contextlib.suppress(OSError):
            if keep:
                self.requests.write(keeper.END + b"\n")
                self.requests.flush()
        for stream in (self.requests, self.answers, self.stderr):
            with contextlib.suppress(OSError):
                stream.close()
        self._connection.close()


def begin(command: Sequence[str], *, kernel: str, what: str, setup: Sequence[str] = ()) -> Kept | None:
    """Begin a round of the command in the guest that is kept for it, or a new one; None if it is in use.

    Args:
        command: program and arguments.
        kernel: as `vm.command_line` takes it. It must have been downloaded.
        what: what it is kept for, to tell people.
        setup: what else the guest depends on.
    """
    name = _name([*command, *setup], kernel)
    for _ in range(3):  # one may end just now
        with _locked_base() as base:
            directory = base / name
            connection = _connected(directory) or _started(directory, command, kernel, f"Linux {kernel} {what}")
        try:
            connection.sendall(b"run\n")
            said = _line(connection)
            if said.get("vm") == "begins":
                return Kept(connection, directory)
        except OSError:
            said = {}
        connection.close()
        if said.get("vm") == "busy":
            return None
    raise KeptError(f"the guest that is kept in {directory} does not begin")


def states(*, end: bool = False) -> Iterator[str]:
    """A line for each guest that is kept; end those that nobody uses."""
    for about in sorted(_base(make=False).glob("*/about")):
        connection = _connected(about.parent)
        if not connection:
            continue
        with connection, contextlib.suppress(OSError):
            what = about.read_text()
            connection.sendall(b"end\n" if end else b"who\n")
            is_used = _line(connection).get("vm") == "busy"
            yield f"{what}: {'in use' if is_used else 'ended' if end else 'waiting for the next run'}"


def _line(connection: socket.socket) -> dict[str, Any]:
    """A line that the keeper says; nothing, if it has gone."""
    line = b""
    while not line.endswith(b"\n"):
        byte = connection.recv(1)  # what comes behind it is not for us
        if not byte:
            return {}
        line += byte
    said: dict[str, Any] = json.loads(line)
    return said


@contextlib.contextmanager
def _locked_base() -> Iterator[Path]:
    """The directory of kept guests, while no other process starts or ends one."""
    while True:
        base = _base(make=True)
        with keeper.locked(base) as is_there:
            if is_there:
                yield base
                return


def _base(*, make: bool) -> Path:
    """The directory of this user's kept guests, which nobody else can enter; the last guest takes it along."""
    base = Path(tempfile.gettempdir(), f"netkit-bpf-{os.geteuid()}")
    if make:
        base.mkdir(mode=0o700, exist_ok=True)
    try:
        found = base.lstat()
    except FileNotFoundError:
        return base
    if base.is_symlink() or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise KeptError(f"{base} must be a directory of this user, that nobody else can enter: remove it")
    return base


def _name(words: Sequence[str], kernel: str) -> str:
    """Another name for another setup: the program, the files that the guest is made of, what it sees of the host."""
    images = [Path(kernel)] if "/" in kernel else [each.image for each in vm.cached() if each.name == kernel]
    files = [*images, *sorted(_HERE.iterdir()), *(Path(word) for word in words if word.startswith("/"))]
    parts: list[Any] = [*words, kernel, sys.version]
    for file in files:
        with contextlib.suppress(OSError):
            found = file.stat()
            # Of a directory what changes inside counts for nothing, but that something was mounted there does.
            parts += [str(file), found.st_dev, found.st_ino, found.st_mtime_ns if file.is_file() else 0]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


@contextlib.contextmanager
def _address(directory: Path) -> Iterator[str]:
    """The path of the socket, in a form that is short enough for one."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{fd}/socket"
    finally:
        os.close(fd)


def _connected(directory: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    try:
        with _address(directory) as address:
            connection.connect(address)
    except OSError:
        connection.close()
        return None
    return connection


def _started(directory: Path, command: Sequence[str], kernel: str, what: str) -> socket.socket:
    """Start a keeper and connect to it; the lock is held."""
    shutil.rmtree(directory, ignore_errors=True)  # of a keeper that was killed
    directory.mkdir(mode=0o700)
    (directory / "about").write_text(what)
    words = line([_BUSYBOX, "sh", str(_HERE / "guest-rounds"), *command], kernel, directory / "console")
    with socket.socket(socket.AF_UNIX) as listener:
        with _address(directory) as address:
            listener.bind(address)
        listener.listen()
        subprocess.run(  # by setsid(1), so that it is nobody's child who would have to wait for it
            ["setsid", "--fork", sys.executable, keeper.__file__, f"{listener.fileno()}", directory, f"{IDLE}", *words],
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            check=True,
        )
    connection = _connected(directory)
    assert connection  # it listens already
    return connection


def line(command: Sequence[str], kernel: str, console: Path) -> list[str]:
    """The arguments of the guest's process, which ends with the keeper."""
    words = vm.command_line(command, kernel=kernel, console=console, timeout=_LIFETIME)
    words[words.index("--watch") + 1] = "{keeper}"
    return words
