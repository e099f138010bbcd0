"""The VM runner keeps its promises. Most tests boot; one that needs many boots runs with NETKIT_BPF_VM_SLOW=1 only."""

from __future__ import annotations

import hashlib
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[1] / "support" / "vm"
sys.path.insert(0, str(HERE))

from initrd import Archive  # noqa: E402
from kernels import newest_image  # noqa: E402
from machine import VIRTIOFSD  # noqa: E402
from splats import splats  # noqa: E402
from view import SCRATCH  # noqa: E402

KERNEL = "7.2"
LIMIT = 110  # a boot takes 4 seconds, the first download of a kernel more


def why_no_vm() -> str:
    """Name what keeps this machine from booting one."""
    if os.geteuid():
        return "needs root"
    if not shutil.which("qemu-system-x86_64") or not any(path.exists() for path in VIRTIOFSD):
        return "QEMU or virtiofsd is missing: NETKIT_BPF_VM=1 tools/setup"
    return ""


boots = pytest.mark.skipif(bool(why_no_vm()), reason=why_no_vm())
slow = pytest.mark.skipif(os.environ.get("NETKIT_BPF_VM_SLOW") != "1", reason="slow: set NETKIT_BPF_VM_SLOW=1")


def run(*words: str, kernel: str = KERNEL) -> subprocess.CompletedProcess[bytes]:
    """Run a command in the guest."""
    runner = [str(HERE / "run"), "--kernel", kernel]
    return subprocess.run([*runner, *words], capture_output=True, check=False, timeout=LIMIT, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize(
    "line",
    [
        "[    2.293423] WARNING: CPU: 0 PID: 1 at net/core/dev.c:1 f+0x1/0x2",
        "[    2.293423] WARNING: net/core/dev.c:1 at f+0x1/0x2, CPU#0: sh/1",
        "[    2.293423][  T136] BUG: kernel NULL pointer dereference, address: 0000000000000000",
        "[   12.000000] WARNING: possible circular locking dependency detected",
        "[   12.000000] ------------[ cut here ]------------",
        "[  120.000000] INFO: task sh:12 blocked for more than 120 seconds.",
        "[  120.000000] unregister_netdevice: waiting for nk0 to become free. Usage count = 2",
        "Kernel panic - not syncing: Attempted to kill init!",
    ],
)
def test_a_complaint_of_the_kernel_is_a_splat(line: str) -> None:
    assert splats(["[    1.000000] quiet", line]) == [[line]]


@pytest.mark.parametrize(
    "line",
    [
        "[    0.100000] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on",
        "[    0.722587] mtrr: your CPUs had inconsistent fixed MTRR settings",
        "[    0.000000] Command line: oops=panic panic=-1",
        "[    3.000000] python3[12]: segfault at 0 ip 0 sp 0 error 4",
    ],
)
def test_a_line_that_only_quotes_a_complaint_is_no_splat(line: str) -> None:
    assert splats([line]) == []


def test_a_report_ends_at_its_end_mark() -> None:
    report = ["[ 1.0] ------------[ cut here ]------------", "[ 1.0] WARNING: x", "[ 1.0] ---[ end trace 0 ]---"]
    assert splats([*report, "[ 2.0] quiet", *report]) == [report, report]


def test_the_newest_image_of_a_series_is_taken() -> None:
    names = [
        "linux-image-6.1.0-47-cloud-amd64",
        "linux-image-6.1.0-9-cloud-amd64",
        "linux-image-6.1.0-50-cloud-amd64-unsigned",
        "linux-image-6.1.0-51-cloud-amd64-dbg",
        "linux-image-6.12.90+deb12.1-cloud-amd64",
        "linux-image-6.12.90+deb12-cloud-amd64",
        "linux-image-6.12.9+deb12-cloud-amd64",
        "linux-image-cloud-amd64",
    ]
    assert newest_image(names, "6.1") == "linux-image-6.1.0-47-cloud-amd64"
    assert newest_image(names, "6.12") == "linux-image-6.12.90+deb12.1-cloud-amd64"
    assert newest_image(names, "7.2") is None


def test_an_archive_is_padded_to_four_bytes() -> None:
    archive = Archive()
    archive.directory("d")
    archive.file("d/f", b"12345", 0o755)
    data = archive.finish()
    assert len(data) % 4 == 0
    assert [at % 4 for at in range(len(data)) if data.startswith(b"070701", at)] == [0, 0, 0]


@boots
def test_output_status_and_shares_come_through_unchanged(tmp_path: Path) -> None:
    content = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(640 * 1024))  # 20 MiB
    (tmp_path / "content").write_bytes(content)
    share = tmp_path / "share"
    share.mkdir()
    probe = Path(f"/etc/netkit-bpf-vm-test-{os.getpid()}")
    script = f"""
        echo written >{probe} && grep -q written {probe} || exit 1
        test "$GIVEN" = 'a b' && test "$PWD" = {Path.cwd()} || exit 2
        uname -r >"$VM_SHARE/release"
        sleep 1000 & # what is left behind does not keep the guest
        cat {tmp_path}/content
        exit 42"""
    done = run("--env", "GIVEN=a b", "--share", str(share), "--", "sh", "-c", script)
    assert done.returncode == 42, done.stderr.decode()
    assert done.stdout == content
    assert not probe.exists()
    assert (share / "release").read_text().startswith(f"{KERNEL}.")


@boots
def test_a_splat_fails_a_green_run() -> None:
    done = run("--", "sh", "-c", "echo 'WARNING: CPU: 0 PID: 1 at foo' >/dev/kmsg; exit 0")
    assert done.returncode == 123
    assert b"WARNING: CPU: 0 PID: 1 at foo" in done.stderr


@boots
def test_a_panic_ends_the_run_at_once() -> None:
    done = run("--", "sh", "-c", "echo before; echo c >/proc/sysrq-trigger; sleep 1000")
    assert done.returncode == 125
    assert b"sysrq triggered crash" in done.stderr


@boots
def test_a_time_out_ends_a_command_that_never_stops_talking() -> None:
    done = run("--timeout", "1", "--", "sh", "-c", "echo first; yes")
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
@slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kernel", ["7.2", "6.12", "6.1"])
def test_twenty_boots_in_a_row_succeed(kernel: str) -> None:
    for status in [0, 1, 42, 255] * 5:
        done = run("--", "sh", "-c", f"uname -r; exit {status}", kernel=kernel)
        assert done.returncode == status, done.stderr.decode()
        assert done.stdout.decode().startswith(f"{kernel}.")
        assert b"never reached" not in done.stderr, done.stderr.decode()
