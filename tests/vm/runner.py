"""The command line: boot a kernel, run a command in it, tell how it ended."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from pathlib import Path

import initrd
import kernels
import splats
import suite
import view
from machine import Machine, MachineError, Outcome, Setup

SPLAT, TIME_OUT, DIED, NO_BOOT = 123, 124, 125, 126
ATTEMPTS = 3
SHARE_IN_GUEST = "/mnt/share"
PASSED = ["HOME", "TERM", "LANG", "CI"]
PATH_FLOOR = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]


def say(text: str) -> None:
    """Tell the user something that is not the command's output."""
    print(f"vm: {text}", file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    """The parsed command line."""
    parser = argparse.ArgumentParser(
        prog="tests/vm/run",
        description="Run COMMAND in a virtual machine with the given kernel, on a throw-away copy of this machine's files.",
        epilog=f"The exit status is the command's, or {SPLAT}: the command succeeded but the kernel complained; {TIME_OUT}: "
        f"time-out; {DIED}: the guest died; {NO_BOOT}: it never booted. The guest's {SHARE_IN_GUEST} ($VM_SHARE) is --share.",
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
    parser.add_argument("command", nargs="*", metavar="COMMAND", help="program and arguments, best after --")
    given = parser.parse_args()
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
        if not given.fetch and os.geteuid() != 0:
            return through_sudo(given.env)
        kernel = kernels.get(given.kernel)
        if given.fetch:
            say(f"kernel {kernel.release} is in {kernel.directory}")
            return 0
        return boot(kernel, given)
    except (kernels.KernelError, suite.AptError, view.ViewError, MachineError) as error:
        say(str(error))
        return NO_BOOT


def show() -> int:
    """List the kernels."""
    have = {kernel.series: kernel.release for kernel in kernels.cached()}
    for series in sorted({*kernels.PLACES, *have}, key=lambda text: [int(part) for part in text.split(".")]):
        print(f"{series:6} {have.get(series, 'not downloaded')}")
    return 0


def through_sudo(extra: list[str]) -> int:
    """Start again as root: mounts need it. The caller's cache and environment stay in use."""
    if not suite.shutil.which("sudo"):
        say("needs root for its mounts: run it as root, or install sudo")
        return NO_BOOT
    names = [*PASSED, "PATH", "XDG_CACHE_HOME", suite.MIRROR_VARIABLE, *(item for item in extra if "=" not in item)]
    words = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    os.execvp("sudo", ["sudo", "env", *words, sys.executable, *sys.argv])


def boot(kernel: kernels.Kernel, given: argparse.Namespace) -> int:
    """Boot until the command has started, then judge how it ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    cwd = os.getcwd()
    share = given.share.resolve() if given.share else None
    if share and not share.is_dir():
        raise MachineError(f"--share {share}: no such directory")
    console = given.console or kernels.cache_directory() / "consoles" / f"{kernel.series}-{os.getpid()}.log"
    console = console.resolve()
    console.parent.mkdir(parents=True, exist_ok=True)
    root = view.make()
    if not share:
        share = view.SCRATCH / "share"
        share.mkdir()
    archive = view.SCRATCH / "initrd"
    archive.write_bytes(initrd.build(kernel, given.command, cwd, environment(given.env), given.module))
    setup = Setup(kernel.image, archive, root, share, console, memory=given.memory, timeout=given.timeout)
    for attempt in range(1, ATTEMPTS + 1):
        outcome = Machine(setup, emit).run()
        if outcome.started:
            break
        again = "trying again" if attempt < ATTEMPTS else "giving up"
        say(f"boot {attempt} of {kernel.release} never reached the command: {again}")
    code = judge(outcome, console, given)
    if code == 0 and not given.console:
        console.unlink()
    elif code:
        say(f"console: {console}")
    return code


def judge(outcome: Outcome, console: Path, given: argparse.Namespace) -> int:
    """The exit code; what the kernel complained about goes to stderr."""
    lines = console.read_text(errors="replace").splitlines()
    reports = splats.splats(lines)
    for line in (line for report in reports for line in report):
        say(f"kernel: {line}")
    if not outcome.started:
        for line in [] if reports else lines[-20:]:
            say(f"console: {line}")
        return NO_BOOT
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
