"""A process with a root, a network and a cgroup of its own, as container runtimes make it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Its root is not ours, and its /proc lies. It says when it is there, and lives until its input ends.
CONTAINER = """
set -e
mount --rbind / "$1"
cd "$1"
pivot_root . .
umount -l .
mount -t tmpfs proc /proc
mkdir -p /proc/1/ns
echo 0::/docker/ffff > /proc/1/cgroup
echo > /proc/1/ns/net
echo ready
exec cat
"""


@contextmanager
def container(cgroup: Path, root: Path, *, network: bool = True) -> Iterator[int]:
    """A container's process; gives its id, as we see it."""
    cgroup.mkdir(parents=True, exist_ok=True)
    root.mkdir()
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", *(["--net"] if network else [])]
    enter = ["sh", "-c", f'echo $$ > {cgroup}/cgroup.procs; exec "$@"', "sh"]
    command = [*enter, *unshare, "sh", "-c", CONTAINER, "sh", str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()


@contextmanager
def cgroup_mount(root: Path) -> Iterator[Path]:
    """A mount of cgroup v2, wherever the machine has it."""
    root.mkdir()
    subprocess.run(["mount", "-t", "cgroup2", "cgroup2", root], check=True)
    yield root
    for made in [*root.glob("test.slice/*.scope"), *root.glob("*.scope"), *root.glob("test.slice")]:
        made.rmdir()
    subprocess.run(["umount", root], check=True)
