"""The VM runner keeps its promises. Most tests boot; those that take minutes run with NETKIT_BPF_VM_SLOW=1 only."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[1] / "support" / "vm"
sys.path.insert(0, str(HERE))

import built  # noqa: E402

from netkit_bpf import vm  # noqa: E402
from netkit_bpf.vm.machine import Outcome  # noqa: E402
from netkit_bpf.vm.runner import Order, guests_own, judge  # noqa: E402
from netkit_bpf.vm.view import SCRATCH  # noqa: E402

KERNEL = "7.2"
LIMIT = 110  # a boot takes 4 seconds, the first download of a kernel more


boots = pytest.mark.skipif(bool(vm.why_not()), reason=vm.why_not() or "")
slow = pytest.mark.skipif(os.environ.get("NETKIT_BPF_VM_SLOW") != "1", reason="slow: set NETKIT_BPF_VM_SLOW=1")


def run(*words: str, kernel: str = KERNEL, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a command in the guest."""
    runner = [str(HERE / "run"), "--kernel", kernel]
    return subprocess.run([*runner, *words], capture_output=True, check=False, timeout=LIMIT, input=stdin)


@pytest.mark.parametrize("name", built.RECIPES)
def test_a_kernel_that_is_built_says_which_packages_that_takes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (HERE / name / "config").exists()
    monkeypatch.setattr(shutil, "which", lambda program: None if program == "xz" else program)
    with pytest.raises(built.BuildError, match="takes more tools: apt-get install xz-utils"):
        built.check_tools()


@pytest.mark.parametrize(
    ("console", "outcome", "status", "said"),
    [
        (
            "Out of memory: Killed process 1",
            Outcome(status=137),
            137,
            "memory was used up (--memory 2G): --memory gives",
        ),
        (
            "",
            Outcome(status=1, full=True),
            1,
            "disk was full, which is 3/4 of its memory (--memory 2G): --memory gives",
        ),
        ("", Outcome(timed_out=True), vm.TIME_OUT, "still running after 300 s (--timeout): true"),
        ("last words", Outcome(), vm.DIED, "last words"),
    ],
)
def test_a_limit_that_was_reached_is_named(
    console: str, outcome: Outcome, status: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "console").write_text(console)
    assert judge(outcome, tmp_path / "console", Order(["true"])) == status
    assert said in capsys.readouterr().err


@boots
def test_output_status_and_shares_come_through_unchanged(tmp_path: Path) -> None:
    content = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(640 * 1024))  # 20 MiB
    (tmp_path / "content").write_bytes(content)
    share = tmp_path / "share"
    share.mkdir()
    os.chown(share, 1000, 1000)  # somebody who may run this by sudo
    probe = Path(f"/etc/netkit-bpf-vm-test-{os.getpid()}")
    # The kernel loads sch_netem when it is asked for; the share is where the host has it, too.
    script = f"""
        ip link add v0 type veth && tc qdisc add dev v0 root netem delay 1ms || exit 3
        test "$(cat)" = 'to stdin' && echo 'to stderr' >&2 || exit 4
        echo written >{probe} && grep -q written {probe} || exit 1
        test "$GIVEN" = 'a b' && test "$PWD" = {Path.cwd()} || exit 2
        uname -r >{share}/release
        sleep 1000 & # what is left behind does not keep the guest
        cat {tmp_path}/content
        exit 42"""
    done = run("--env", "GIVEN=a b", "--share", str(share), "--", "sh", "-c", script, stdin=b"to stdin")
    assert done.returncode == 42, done.stderr.decode()
    assert done.stderr.startswith(b"to stderr\n")
    assert done.stdout == content
    assert not probe.exists()
    assert (share / "release").read_text().startswith(f"{KERNEL}.")
    words = "import pathlib, sys; from netkit_bpf.vm import view; view.make(); p = pathlib.Path(sys.argv[1])"
    can = subprocess.run([sys.executable, "-c", f"{words}; sys.exit(view.for_its_owner(p) == p)", share], check=False)
    assert (share / "release").stat().st_uid == (0 if can.returncode else 1000)


@boots
def test_a_share_may_be_where_the_guests_files_are_new() -> None:
    with tempfile.TemporaryDirectory(dir="/run") as share:
        done = run("--share", share, "--", "sh", "-c", f"echo written >{share}/new")
        assert done.returncode == 0, done.stderr.decode()
        assert Path(share, "new").read_text() == "written\n"


@pytest.mark.parametrize(
    ("share", "own"),
    [
        ("/dev/shm", "/dev"),
        ("/sys", "/sys"),
        ("/proc/self", "/proc"),
        ("/run", "/run/vm"),
        ("/", "/dev"),
        ("/tmp", None),
        ("/run/lock", None),
        ("/device", None),
    ],
)
def test_a_share_does_not_go_where_the_guest_has_something_of_its_own(share: str, own: str | None) -> None:
    assert guests_own(Path(share)) == own


@boots
def test_what_is_lost_of_where_it_was_written_is_told(tmp_path: Path) -> None:
    line = [
        str(HERE / "run"),
        "--kernel",
        KERNEL,
        "--",
        "sh",
        "-c",
        "echo >/tmp/of-nobody; mkdir d; echo >d/plot.png; echo >two",
    ]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=LIMIT, cwd=tmp_path)
    assert f"gone with the guest: {tmp_path}/" in done.stderr
    assert " and 1 more; what is written to the directory of --share stays (--share .)" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_root_writes_to_a_share_is_its_owners_and_nothing_else_changes_hands() -> None:
    script = """if True:
        import os, pathlib, tempfile
        from netkit_bpf.vm import view

        with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
            share = pathlib.Path(name)
            os.chown(share, 1000, 1001)
            (share / "roots").touch()
            view.make()
            mounted = view.for_its_owner(share)
            if mounted == share:
                raise SystemExit("no such mounts of tmpfs")
            (mounted / "new").touch()
            (mounted / "old").touch()
            os.chown(mounted / "old", 5, 5)
            for file in sorted(share.iterdir()):
                print(file.name, file.stat().st_uid, file.stat().st_gid)
        """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if "no such mounts" in done.stderr:
        pytest.skip("this machine's kernel is older than 6.3, or has no user namespaces")
    assert done.stdout.splitlines() == ["new 1000 1001", "old 5 5", "roots 0 0"]


@boots
def test_a_published_port_leads_to_a_server_in_the_guest_and_to_nobody_else() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        refused = run("--publish", f"{port}:8000", "--", "true")
        assert refused.returncode == vm.NO_BOOT
        assert f"port {port} of 127.0.0.1 cannot be published: Address already in use" in refused.stderr.decode()
    twice = run("--publish", f"{port}:1", "--publish", f"{port}:2", "--", "true")
    assert f"port {port} of 127.0.0.1 cannot be published twice" in twice.stderr.decode()
    for place in ("/dev/null", "/tmp"):
        odd = run("--console", place, "--", "true")
        assert odd.returncode == vm.NO_BOOT
        assert f"--console {place}: not a regular file" in odd.stderr.decode()
    server = (
        "import socket; server = socket.create_server(('10.0.2.15', 8000)); print('ready', flush=True)\n"
        "other = socket.socket(); other.settimeout(2)\n"
        "try: other.connect(('10.0.2.2', 1)); print('reached')\n"
        "except OSError: print('nobody', flush=True)\n"
        "client, _ = server.accept(); client.sendall(b'hello'); client.close()"
    )
    popen = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with vm.start([sys.executable, "-c", server], kernel=KERNEL, publish={port: 8000}, popen=popen) as guest:
        assert guest.stdout is not None
        assert guest.stdout.readline() == b"ready\n"
        assert guest.stdout.readline() == b"nobody\n"
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            assert client.recv(100) == b"hello"
        assert guest.wait(60) == 0


@boots
@slow
def test_jupyterlab_of_the_guest_is_reached_from_here_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "a b.ipynb").write_text(json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    words = [sys.executable, "-m", "netkit_bpf", "vm", "jupyter", "a b.ipynb"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        said = []
        for line in server.stdout:
            said.append(line)
            if found := re.search(r"(http://127\.0\.0\.1:\d+)/lab/tree/a%20b\.ipynb\?token=(\w+)", line):
                break
        else:
            pytest.fail("".join(said))
        address = f"{found[1]}/api/contents/a%20b.ipynb"
        end = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"{address}?token={found[2]}", timeout=60) as answer:
                    assert json.load(answer)["type"] == "notebook"
                break
            except ConnectionResetError:  # it says so a moment before it listens
                assert time.monotonic() < end
                time.sleep(0.5)
        with pytest.raises(urllib.error.HTTPError, match="Forbidden"):
            urllib.request.urlopen(address, timeout=60)
        server.send_signal(signal.SIGINT)
        server.stdout.read()
        assert server.wait(60) == 130


@boots
def test_a_splat_fails_a_green_run() -> None:
    command = ["sh", "-c", "cat; echo 'WARNING: CPU: 0 PID: 1 at foo' >/dev/kmsg; exit 0"]
    # At its path in the cache, where a kernel of one's own looks the same.
    path = vm.get(KERNEL).image.parent
    done = vm.run(command, kernel=str(path), input=b"through", capture_output=True, memory="1G", cpus=1)
    assert done.stdout == b"through"
    assert done.returncode == vm.SPLAT
    assert b"WARNING: CPU: 0 PID: 1 at foo" in done.stderr


@boots
def test_a_panic_ends_the_run_at_once() -> None:
    done = run("--", "sh", "-c", "echo before; echo c >/proc/sysrq-trigger; sleep 1000")
    assert done.returncode == 125
    assert b"sysrq triggered crash" in done.stderr


@boots
def test_a_time_out_ends_a_command_that_never_stops_talking() -> None:
    done = run("--timeout", "4", "--", "sh", "-c", "echo first; yes")
    assert done.returncode == 124
    assert done.stdout.startswith(b"first\ny\n")


@boots
def test_nothing_is_left_of_a_runner_that_was_killed() -> None:
    runner = [str(HERE / "run"), "--kernel", KERNEL, "--", "sh", "-c", "echo ready; sleep 1000"]
    with subprocess.Popen(runner, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) == 3  # QEMU and two file servers
        handles = [os.pidfd_open(int(child)) for child in children]
        try:
            process.send_signal(signal.SIGKILL)
            for handle in handles:
                assert select.select([handle], [], [], 30)[0], "a child outlives the runner"
        finally:
            for handle in handles:
                os.close(handle)
    assert str(SCRATCH) not in Path("/proc/self/mounts").read_text()
    assert not any(SCRATCH.iterdir())


@boots
def test_a_shell_has_a_terminal_of_the_same_size() -> None:
    words = [sys.executable, "-m", "netkit_bpf", "vm", "shell", "--kernel", KERNEL]
    process, terminal = pty.fork()
    if not process:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", 33, 77, 0, 0))  # tcsetwinsize() came with Python 3.11
        os.execve(sys.executable, words, {**os.environ, "SHELL": "/bin/sh"})
    try:
        os.write(terminal, b"stty size; tty; cat\n")  # ahead: it takes seconds until a shell reads it
        said = b""
        while b"33 77" not in said or b"/dev/pts/" not in said:
            said += os.read(terminal, 4096)
        os.write(terminal, b"echoed twice\n")
        while said.count(b"echoed twice") < 2:  # by the terminal, and by cat, which so is running
            said += os.read(terminal, 4096)
        os.write(terminal, b"\x03")
        while said.count(b"# ") < 2:
            said += os.read(terminal, 4096)
        os.write(terminal, b"exit 3\n")
        with contextlib.suppress(OSError):  # the terminal ends with the shell
            while data := os.read(terminal, 4096):
                said += data
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 3, said.decode()
    finally:
        os.close(terminal)


@boots
@slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kernel", ["7.2", "6.12", "6.1"])
def test_twenty_boots_in_a_row_succeed(kernel: str) -> None:
    for status in [0, 1, 42, 255] * 5:
        done = run("--", "sh", "-c", f"uname -r; exit {status}", kernel=kernel)
        assert done.returncode == status, done.stderr.decode()
        assert done.stdout.decode().startswith(f"{kernel}.")
        assert b"never reached" not in done.stderr, done.stderr.decode()
