"""A process to be killed: a fork of this one, for starting another interpreter takes seconds in an emulated machine."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from types import TracebackType


class Forked:
    """A child that calls a function, keeps what it returns, and lives on until it is killed with SIGKILL."""

    def __init__(self, function: Callable[[], object]) -> None:
        ours, theirs = os.pipe()
        self.pid = os.fork()
        self._living = True
        if self.pid == 0:
            _live_on(function, theirs)
        os.close(theirs)
        with open(ours, "rb") as answer:
            called = answer.read(4) == b"done"
        if not called:
            self.kill()
            raise AssertionError("the child failed; see its traceback")

    def kill(self) -> None:
        if self._living:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self._living = False

    def __enter__(self) -> Forked:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()


def _live_on(function: Callable[[], object], pipe: int) -> None:
    try:
        kept = [function()]
        os.write(pipe, b"done")
        while kept:
            signal.pause()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)
