"""Where the kernel has no more threads: an OSError that says so, wherever one is started."""

from __future__ import annotations

import subprocess
import sys

import pytest

# A new thread's stack is what there is no room for: pthread_create(3) fails alike with EAGAIN.
LIMITED = """
import resource, netkit_bpf as nk, threading
from netkit_bpf.functions.monitor_programs import load_programs
{before}
with open("/proc/self/statm") as memory:
    pages = int(memory.read().split()[0])
room = pages * resource.getpagesize() + (4 << 20)
resource.setrlimit(resource.RLIMIT_AS, (room, room))
try:
    {call}
except BlockingIOError as error:
    print(error.strerror)
"""
OBJECT = "obj = load_programs(0, 4096)"


@pytest.mark.parametrize(
    ("before", "call", "text"),
    [
        ("", "nk.NetNS.create()", "start a thread for a network namespace: Resource temporarily unavailable"),
        (
            "here = nk.NetNS.current()",
            "here.call(print)",
            "call a function in network namespace ",
        ),
        (
            OBJECT,
            'nk.PacketReader(obj.maps["events"], pairs=["nk0"])',
            "start the reader's thread: Resource temporarily unavailable",
        ),
    ],
)
def test_a_thread_that_cannot_be_started_is_an_oserror(before: str, call: str, text: str) -> None:
    command = [sys.executable, "-c", LIMITED.format(before=before, call=call)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(text), done.stderr
    assert "(a limit of processes (ulimit -u, pids.max of the cgroup) or of memory is reached)" in done.stdout
