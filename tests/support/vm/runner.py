"""The command line: boot a kernel, run a command in it, tell how it ended."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import NoReturn

import accelerator
import initrd
import kernels
import splats
import suite
import view
from machine import Machine, MachineError, Outcome, Setup

SPLAT, TIME_OUT, DIED, NO_BOOT = 123, 124, 125, 126
ATTEMPTS = 3
# Consoles of failed runs that are kept in the cache.
CONSOLES = 20
SHARE_IN_GUEST = "/mnt/share"
PASSED = ["HOME", "TERM", "LANG", "CI"]
PATH_FLOOR = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]


def say(text: str) -> None:
    """Tell the user something that is not the command's output."""
    print(f"vm: {text}", file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(
        prog="tests/support/vm/run",
        usage="%(prog)s --kernel SERIES [options] [--] COMMAND…",
        description="Run COMMAND in a virtual machine on this machine's files; what it writes to them is thrown away.",
        epilog="The exit status is the command's. "
        f"{SPLAT}: the command succeeded, but the kernel complained. {TIME_OUT}: time-out. "
        f"{DIED}: the guest died. {NO_BOOT}: it never booted, or could not be made. "
        f"The directory of --share is {SHARE_IN_GUEST} in the guest, and $VM_SHARE.",
    )
    parser.add_argument("--kernel", metavar="SERIES", help="such as 7.2, 6.12 or 6.1")
    parser.add_argument("--timeout", type=float, default=300, metavar="SECONDS", help="for the command, from its start")
    parser.add_argument("--share", type=Path, metavar="DIR", help="a directory that the guest can write to")
    parser.add_argument("--memory", default="2G", help="of the guest (default 2G)")
    parser.add_argument("--env", action="append", default=[], metavar="NAME[=VALUE]", help="pass a variable to COMMAND")
    parser.add_argument("--module", action="append", default=[], metavar="NAME", help="load a kernel module too")
    parser.add_argument("--console", type=Path, metavar="FILE", help="keep the kernel's messages here")
    parser.add_argument("--fetch", action="store_true", help="only download the kernel")
    parser.add_argument("--list", action="store_true", help="show the kernels that are known and cached")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="program and arguments")
    given = parser.parse_args()
    given.command = given.command[given.command[:1] == ["--"] :]
    if not given.list and not given.kernel:
        parser.error("--kernel is required")
    if not given.list and not given.fetch and not given.command:
        parser.error("a COMMAND is required")
    return given


def environment(extra: list[str]) -> dict[str, str]:
    """What the command sees: a few of the caller's variables, its PATH, and what --env adds."""
    passed = {name: os.environ[name] for name in PASSED if name in os.environ}
    path = [part for part in os.environ.get("PATH", "").split(":") if part]
    passed["PATH"] = ":".join([*path, *(part for part in PATH_FLOOR if part not in path)])
    passed["VM_SHARE"] = SHARE_IN_GUEST
    for item in extra:
        name, equals, value = item.partition("=")
        if equals or name in os.environ:
            passed[name] = value if equals else os.environ[name]
    return passed


def emit(data: bytes) -> None:
    """Pass on the command's output at once."""
    while data:
        data = data[os.write(1, data) :]


def main() -> int:
    """Do what the command line says."""
    given = arguments()
    try:
        if given.list:
            return show()
        kernel = kernels.get(given.kernel)
        if given.fetch:
            say(f"kernel {kernel.release} is in {kernel.directory}")
            return 0
        if os.geteuid() != 0:  # not before: what the caller owns stays the caller's
            through_sudo(given.env)
        return boot(kernel, given)
    except (kernels.KernelError, suite.AptError, initrd.InitrdError, view.ViewError, MachineError) as error:
        say(str(error))
        return NO_BOOT
    except BrokenPipeError:
        return 128 + signal.SIGPIPE  # the reader of the output went away


def show() -> int:
    """List the kernels."""
    have = {kernel.series: kernel.release for kernel in kernels.cached()}
    for series in sorted({*kernels.PLACES, *have}, key=lambda text: [int(part) for part in text.split(".")]):
        print(f"{series:6} {have.get(series, 'not downloaded')}")
    return 0


def through_sudo(extra: list[str]) -> NoReturn:
    """Start again as root: mounts need it. The caller's cache and environment stay in use."""
    if not shutil.which("sudo"):
        raise MachineError("needs root for its mounts: run it as root, or install sudo")
    names = [*PASSED, "PATH", "XDG_CACHE_HOME", suite.MIRROR_VARIABLE, accelerator.VARIABLE, *extra]
    words = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    os.execvp("sudo", ["sudo", "env", *words, sys.executable, *sys.argv])


def stop(number: int, _: object) -> None:
    """End on a signal by way of the clean-up."""
    sys.exit(128 + number)


def boot(kernel: kernels.Kernel, given: argparse.Namespace) -> int:
    """Boot until the command has started, then judge how it ended."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    if platform.machine() != "x86_64":
        raise MachineError(f"the guest shares this machine's files and is x86_64; this is {platform.machine()}")
    cwd = str(Path.cwd())
    share = given.share.resolve() if given.share else None
    if share and not share.is_dir():
        raise MachineError(f"--share {share}: no such directory")
    cache = kernels.cache_directory()
    console = (given.console or cache / "consoles" / f"{kernel.series}-{os.getpid()}.log").resolve()
    console.parent.mkdir(parents=True, exist_ok=True)
    kept = sorted((cache / "consoles").glob("*"), key=lambda path: path.stat().st_mtime)
    for old in kept[:-CONSOLES]:
        old.unlink(missing_ok=True)
    root = view.make()
    if not share:
        share = view.SCRATCH / "share"
        share.mkdir()

    def archive(command: list[str]) -> Path:
        path = view.SCRATCH / "initrd"
        path.write_bytes(initrd.build(kernel, command, cwd, environment(given.env), given.module))
        return path

    log = view.SCRATCH / "log"
    setup = Setup(
        kernel.image, archive(["true"]), root, share, console, log, memory=given.memory, timeout=given.timeout
    )
    setup.kvm = accelerator.kvm_works(setup, cache)
    archive(given.command)
    for attempt in range(1, ATTEMPTS + 1):
        log.write_bytes(b"")
        outcome = Machine(setup, emit).run()
        if outcome.started:
            break
        failed = console.rename(console.with_name(f"{console.name}.boot{attempt}"))
        say(f"boot {attempt} of {ATTEMPTS} of {kernel.release} never reached the command; its console: {failed}")
        for line in [*tail(failed), *tail(log)]:
            say(f"  {line}")
        setup.kvm = False  # emulation is slow but sure
    else:
        return NO_BOOT
    code = judge(outcome, console, given)
    if code:
        say(f"console: {console}")
    elif not given.console:
        console.unlink()
    return code


def tail(path: Path) -> list[str]:
    """Return the last lines of a file."""
    return path.read_text(errors="replace").splitlines()[-10:]


def judge(outcome: Outcome, console: Path, given: argparse.Namespace) -> int:
    """Return the exit code; what the kernel complained about goes to stderr."""
    reports = splats.splats(console.read_text(errors="replace").splitlines())
    for line in (line for report in reports for line in report):
        say(f"kernel: {line}")
    if outcome.timed_out:
        say(f"time-out: still running after {given.timeout:g} s: {shlex.join(given.command)}")
        return TIME_OUT
    if outcome.status is None:
        say(f"the guest died while it ran: {shlex.join(given.command)}")
        return DIED
    if reports and outcome.status == 0:
        say("the command succeeded, but the kernel complained")
        return SPLAT
    return outcome.status
