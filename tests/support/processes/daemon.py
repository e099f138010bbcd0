"""A daemon as Stevens makes one: a grandchild that goes on with what its parent made, after the parent has ended."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable
from types import TracebackType


class Daemon:
    """What `make` returns is made by a process that forks and ends; `go_on` is called in the child that lives on."""

    def __init__(self, make: Callable[[], object], go_on: Callable[[], None] = lambda: None) -> None:
        ours, theirs = os.pipe()
        self.maker = os.fork()
        if self.maker == 0:
            _become_daemon(make, go_on, theirs)
        os.close(theirs)
        os.waitpid(self.maker, 0)
        with open(ours) as answer:
            self.pid = int(answer.read())  # the end of the file: it is done, or has closed everything
        self._living = True

    def kill(self) -> None:
        self._living = False
        ended = os.pidfd_open(self.pid)  # it is not our child
        os.kill(self.pid, signal.SIGKILL)
        select.select([ended], [], [])
        os.close(ended)

    def __enter__(self) -> Daemon:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._living:
            self.kill()


def _become_daemon(make: Callable[[], object], go_on: Callable[[], None], pipe: int) -> None:
    try:
        kept = [make()]
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        os.write(pipe, str(os.getpid()).encode())
        go_on()
        with contextlib.suppress(OSError):  # closed there
            os.close(pipe)
        while kept:
            signal.pause()
    finally:
        os._exit(1)
