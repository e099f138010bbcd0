"""A machine in use: programs and maps come and go, on hooks too, so do named namespaces, and programs print.

    sudo .venv/bin/python tests/support/processes/noise.py

Beside it the test suite must pass. It prints its process id and a line more for each round, until SIGTERM or Ctrl-C.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.extend(str(folder) for folder in Path(__file__).resolve().parents[1].iterdir())  # as pytest has them

import private
from netkit_bpf import BPFObject, Device, Map, NetNS
from programs import PRINTS, build
from veth import has_tcx

FRAME = bytes(12) + b"\x08\x00" + bytes(46)


@contextmanager
def machine_in_use() -> Iterator[Callable[[], None]]:
    """The noise of other users: in the machine's own namespaces, and not by a child of this process.

    Yields a function that waits until everything has happened once more.
    """
    spaces = [f"--{kind}=/proc/self/fd/{fd}" for kind, fd in private.outside.items()]
    argv = ["nsenter", *spaces, "setsid", "--fork", sys.executable, str(Path(__file__).resolve())]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, pass_fds=[*private.outside.values()]) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.wait()  # its child goes on as an orphan
        try:
            yield lambda: _next_line(process)
        finally:
            os.kill(pid, signal.SIGTERM)
            process.stdout.read()  # ends when the last holder of the pipe has ended


def _next_line(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline(), "the noise has ended"


def once(number: int) -> None:
    """Everything once."""
    with BPFObject.open(build(PRINTS)) as obj, NetNS.create(f"noise-{os.getpid()}-{number}") as netns:
        with Map.create("array", key_size=4, value_size=4, max_entries=1):
            obj.programs["prints"].test_run(FRAME, repeat=100)
        if has_tcx():
            with Device.open("lo", netns).attach(obj.programs["prints"], "ingress"):
                obj.programs["prints_another"].test_run(FRAME)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    print(os.getpid(), flush=True)
    for number in itertools.count():
        once(number)
        print(number, flush=True)


if __name__ == "__main__":
    main()
