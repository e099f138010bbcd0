# SPDX-License-Identifier: MIT
"""The process that a kept guest belongs to: it passes on what one caller at a time and the guest say, and waits.

A script, started by kept.py. It ends, and the guest with it, when nobody asked for the guest for a while, when it is
told to, and when a caller goes away without saying that its round is over, as a killed one does: nobody knows then in
what state the guest is. Of what it says itself the first words are `{"vm":`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BEGIN = b"run\n"  # to the guest
END = b'{"end": true}'  # a caller's last line
ENDED = b'{"ended": '  # begins the guest's last line of a round
HELLO_LIMIT = 2.0
_END_LIMIT = 10.0
ROUND_END_LIMIT = 60.0
# A guest grows old: what rounds left in its kernel adds up.
OLDEST = 8 * 3600.0


class Keeper:
    """One guest, and who uses it."""

    def __init__(self, listener: socket.socket, guest: subprocess.Popen[bytes], idle: float, path: Path) -> None:
        assert guest.stdin
        assert guest.stdout
        self._listener = listener
        self._guest = guest
        self._input, self._output = guest.stdin.fileno(), guest.stdout.fileno()
        os.set_blocking(self._input, False)
        self._idle = idle
        self._path = path
        self._unwritten = BEGIN  # for the guest, which is ahead: the command starts before somebody wants it
        self._unsaid = b""  # of the guest, to the caller, who may be stopped: nothing more is read from the guest then
        self._caller: socket.socket | None = None
        self._waiting: socket.socket | None = None  # for the round before to end
        self._tail = b""  # of what the caller said, and in between rounds of what the guest said
        self._is_ending = False  # the round
        self._deadline = time.monotonic() + idle
        self._oldest = time.monotonic() + OLDEST

    def run(self) -> None:
        """Serve until the end."""
        while True:
            limit = None if self._caller else max(0.0, self._deadline - time.monotonic())
            reading: list[Any] = [self._listener, *([self._caller] if self._caller else [])]
            reading += [] if self._unsaid else [self._output]
            writing: list[Any] = [self._input] if self._unwritten else []
            writing += [self._caller] if self._unsaid else []
            readable, writable, _ = select.select(reading, writing, [], limit)
            if not (readable or writable):
                return
            try:
                if self._input in writable:
                    self._unwritten = self._unwritten[os.write(self._input, self._unwritten) :]
                if self._caller and self._caller in writable:
                    self._unsaid = self._unsaid[self._caller.send(self._unsaid) :]
                if self._output in readable and not self._hear_guest():
                    return
                if self._caller in readable and not self._hear_caller():
                    return
                if self._listener in readable and not self._accept():
                    return
            except OSError:  # the caller or the guest went away
                return

    def close(self) -> None:
        """End the guest and tell who is still there; what comes from now on finds nobody.

        Whoever wants the next guest waits meanwhile: it takes the same directory.
        """
        with locked(self._path.parent):
            self._listener.close()
            (self._path / "socket").unlink(missing_ok=True)
            try:
                status = self._end()
            finally:
                shutil.rmtree(self._path, ignore_errors=True)
                with contextlib.suppress(OSError):  # others are kept
                    self._path.parent.rmdir()
        for caller, unsaid in ((self._caller, self._unsaid), (self._waiting, b"")):
            if caller:
                with contextlib.suppress(OSError):
                    caller.settimeout(HELLO_LIMIT)
                    caller.sendall(unsaid + json.dumps({"vm": "gone", "status": status}).encode() + b"\n")
                caller.close()

    def _end(self) -> int | None:
        """End the guest and return how it ended; None if that is to come."""
        try:
            self._guest.terminate()
            try:
                return self._guest.wait(_END_LIMIT)
            except subprocess.TimeoutExpired:  # stopped, or it waits for a disk
                self._guest.kill()
                return self._guest.wait()
        except PermissionError:  # it is sudo's: closed pipes end it, or else the end of this process, which it watches
            for pipe in (self._guest.stdin, self._guest.stdout):
                if pipe:
                    pipe.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._guest.wait(_END_LIMIT)
            return None

    def _accept(self) -> bool:
        caller, _ = self._listener.accept()
        caller.settimeout(HELLO_LIMIT)
        try:
            hello = caller.recv(100)
        except OSError:
            caller.close()
            return True
        caller.settimeout(None)
        if self._caller or self._waiting:
            with contextlib.suppress(OSError):
                caller.sendall(b'{"vm": "busy"}\n')
            caller.close()
        elif hello == b"end\n":
            self._waiting = caller
            return False
        elif hello != b"run\n":
            with contextlib.suppress(OSError):
                caller.sendall(b'{"vm": "idle"}\n')
            caller.close()
        else:
            self._waiting = caller
            if not self._is_ending:
                self._begin()
        return True

    def _begin(self) -> None:
        if self._waiting:
            self._caller, self._waiting, self._tail = self._waiting, None, b""
            self._caller.setblocking(False)
            self._unsaid = b'{"vm": "begins"}\n'

    def _hear_guest(self) -> bool:
        data = os.read(self._output, 1 << 16)
        if not data:
            return False
        if self._caller:
            self._unsaid = data
            return True
        *lines, self._tail = (self._tail + data).split(b"\n")
        if self._is_ending and any(line.startswith(ENDED) for line in lines):
            self._is_ending = False
            self._deadline = time.monotonic() + self._idle
            if time.monotonic() > self._oldest:
                return False
            self._unwritten += BEGIN
            self._begin()
        return True

    def _hear_caller(self) -> bool:
        assert self._caller
        data = self._caller.recv(1 << 16)
        self._unwritten += data
        if data:
            self._tail = (self._tail + data)[-len(END) - 2 :]
            return True
        self._caller.close()
        self._caller, self._unsaid = None, b""
        if self._tail != b"\n" + END + b"\n":
            return False
        self._tail, self._is_ending = b"", True
        self._deadline = time.monotonic() + ROUND_END_LIMIT
        return True


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[bool]:
    """Keep other processes from starting and ending kept guests; False if the last guest took the directory along."""
    import fcntl

    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield directory.exists() and os.path.samestat(
            os.fstat(lock), directory.stat()
        )  # only who has the lock removes it
    finally:
        os.close(lock)


def main() -> None:
    """Take a listening socket, a directory, how long to wait, and the guest's command line."""
    import signal

    fd, path, idle, *line = sys.argv[1:]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    line = [str(os.getpid()) if word == "{keeper}" else word for word in line]
    with socket.socket(fileno=int(fd)) as listener, Path(path, "stderr").open("ab") as errors:
        guest = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd="/")
        keeper = Keeper(listener, guest, float(idle), Path(path))
        try:
            keeper.run()
        finally:
            keeper.close()


if __name__ == "__main__":
    main()
