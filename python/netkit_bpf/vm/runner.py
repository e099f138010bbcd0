# SPDX-License-Identifier: MIT
"""Boot a kernel, run a command in it, tell how it ended."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import shutil
import signal
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from netkit_bpf.vm import accelerator, child, initrd, kernels, missing, modules, splats, suite, terminal, view
from netkit_bpf.vm.machine import Machine, Outcome, Setup
from netkit_bpf.vm.words import DEFAULT, DIED, NO_BOOT, SHARE_IN_GUEST, SPLAT, TIME_OUT

ATTEMPTS = 3
# Consoles of failed runs that are kept in the cache.
CONSOLES = 20
CONSOLE = r".+-\d+\.log(\.boot\d)?"
GUESTS_OWN = ["/dev", "/proc", "/sys", "/run/vm"]
PASSED = ["HOME", "TERM", "LANG", "CI"]
PATH_FLOOR = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]


@dataclass
class Order:
    """What to run, and in what.

    Attributes:
        command: program and arguments.
        kernel: a series or a path, as `kernels.get` takes it.
        timeout: of the command from its start, in seconds.
        share: a directory that the guest can write to, there and at /mnt/share.
        memory: of the guest, in QEMU's words.
        cpus: how many the guest has.
        env: variables for the command, NAME=VALUE, or NAME to pass on the caller's.
        module: kernel modules to load before.
        publish: TCP ports of 127.0.0.1 here, each with the guest's that it leads to.
        console: where to keep the kernel's messages.
        watched: id of a process, with whose end the guest ends.
        terminal: the command has a terminal, and the caller's keys.
    """

    command: list[str]
    kernel: str = DEFAULT
    timeout: float = 300
    share: Path | None = None
    memory: str = "2G"
    cpus: int = 2
    env: list[str] = field(default_factory=list)
    module: list[str] = field(default_factory=list)
    publish: list[tuple[int, int]] = field(default_factory=list)
    console: Path | None = None
    watched: int | None = None
    terminal: bool = False


def say(text: str) -> None:
    """Print a message that is not the command's output."""
    print(f"vm: {text}", file=sys.stderr, flush=True)


def environment(extra: list[str]) -> dict[str, str]:
    """What the command sees: a few of the caller's variables, its PATH, and those of an order."""
    passed = {name: os.environ[name] for name in PASSED if name in os.environ}
    path = [part for part in os.environ.get("PATH", "").split(":") if part]
    passed["PATH"] = ":".join([*path, *(part for part in PATH_FLOOR if part not in path)])
    passed["VM_SHARE"] = SHARE_IN_GUEST
    for item in extra:
        name, equals, value = item.partition("=")
        if equals or name in os.environ:
            passed[name] = value if equals else os.environ[name]
    return passed


def emit(fd: int, data: bytes) -> None:
    """Pass on the command's output at once."""
    while data:
        data = data[os.write(fd, data) :]


def run(order: Order) -> int:
    """Do what is ordered, and return the command's exit status, or one of those above. Ends as root, not as the caller.

    Not for a process that goes on: it moves to a mount namespace of its own and takes signals.
    """
    try:
        missing.check()
        kernel = kernels.get(order.kernel)
        modules.check(kernel.modules, order.module)
        if os.geteuid() != 0:  # only now, so that files made before belong to the caller
            through_sudo(order.env)
        check_ports(order.publish)
        return boot(kernel, order)
    except (kernels.KernelError, suite.AptError, missing.MissingError, view.ViewError, child.ChildError) as error:
        say(str(error))
        return NO_BOOT
    except BrokenPipeError:
        return 128 + signal.SIGPIPE  # the reader of the output went away


def check_ports(publish: list[tuple[int, int]]) -> None:
    """Refuse a port that cannot be published here."""
    ports = [here for here, _ in publish]
    for here in ports:
        if ports.count(here) > 1:
            raise missing.MissingError(f"port {here} of 127.0.0.1 cannot be published twice")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as QEMU does
            try:
                probe.bind(("127.0.0.1", here))
            except OSError as error:
                raise missing.MissingError(f"port {here} of 127.0.0.1 cannot be published: {error.strerror}") from None


def through_sudo(extra: list[str]) -> NoReturn:
    """Start again as root: mounts need it. The caller's cache and environment stay in use."""
    names = [*PASSED, "PATH", "XDG_CACHE_HOME", suite.MIRROR_VARIABLE, accelerator.VARIABLE, *extra]
    words = [f"{name}={os.environ[name]}" for name in names if name in os.environ]
    asking = [] if sys.stdin and sys.stdin.isatty() else ["-n"]  # standard input is the command's
    os.execvp("sudo", ["sudo", *asking, "env", *words, sys.executable, *sys.orig_argv[1:]])


def stop(number: int, _: object) -> None:
    """End on a signal, after cleaning up."""
    sys.exit(128 + number)


def boot(kernel: kernels.Kernel, order: Order) -> int:
    """Boot until the command has started, then judge how it ended."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    cwd = str(Path.cwd())
    share = order.share.resolve() if order.share else None
    if share and not share.is_dir():
        say(f"--share {share}: no such directory")
        return NO_BOOT
    if share and (own := guests_own(share)):
        say(f"--share {share}: the guest has its own {own}: share another directory")
        return NO_BOOT
    if order.console and order.console.exists() and not order.console.is_file():
        say(f"--console {order.console}: not a regular file")
        return NO_BOOT
    cache = kernels.cache_directory()
    console = (order.console or cache / "consoles" / f"{kernel.release}-{os.getpid()}.log").resolve()
    console.parent.mkdir(parents=True, exist_ok=True)
    claim(console)
    sweep(cache / "consoles")
    root = view.make()
    scratch = view.SCRATCH / "share"
    scratch.mkdir()

    def archive(command: list[str]) -> Path:
        path = view.SCRATCH / "initrd"
        variables = environment(order.env)
        content = initrd.build(
            kernel,
            command,
            cwd=cwd,
            environment=variables,
            share=share,
            extra=order.module,
            has_network=bool(order.publish),
        )
        path.write_bytes(content)
        return path

    log = view.SCRATCH / "log"
    writable = view.for_its_owner(share) if share else scratch
    setup = Setup(kernel.image, archive(["true"]), root, writable, console, log)
    setup.memory, setup.cpus, setup.timeout = order.memory, order.cpus, order.timeout
    setup.publish = order.publish
    setup.kvm = accelerator.kvm_works(setup, cache)
    archive(terminal.on_a_terminal(order.command) if order.terminal else order.command)
    setup.stdin = 0
    if order.watched is not None:
        try:
            setup.watched = os.pidfd_open(order.watched)
        except ProcessLookupError:
            return DIED
    for attempt in range(1, ATTEMPTS + 1):
        log.write_bytes(b"")
        with terminal.passed_through() if order.terminal else contextlib.nullcontext():
            outcome = Machine(setup, emit).run()
        if outcome.started or outcome.deserted:
            break
        failed = shutil.copyfile(console, console.with_name(f"{console.name}.boot{attempt}"))  # this one is locked
        say(f"boot {attempt} of {ATTEMPTS} of {kernel.release} never reached the command; its console: {failed}")
        for line in [*tail(failed), *tail(log)]:
            say(f"  {line}")
        setup.kvm = False  # emulation is slow but sure
    else:
        console.unlink()
        return NO_BOOT
    code = judge(outcome, console, order)
    if code:
        say(f"console: {console}")
    elif not order.console:
        console.unlink()
    return code


def guests_own(share: Path) -> str | None:
    """What a share would be hidden by in the guest, or would hide there; None if it fits in."""
    return next((own for own in GUESTS_OWN if Path(own) in (share, *share.parents) or share in Path(own).parents), None)


def claim(console: Path) -> None:
    """Lock a console until this process ends: other runs leave it alone."""
    with contextlib.suppress(OSError):  # its file system has no locks
        fcntl.flock(os.open(console, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644), fcntl.LOCK_SH)


def sweep(consoles: Path) -> None:
    """Remove all but the newest consoles of runs that have ended; what else lies there is not ours."""
    found = []
    for path in consoles.glob("*.log*"):
        with contextlib.suppress(OSError):  # removed by another run just now
            if re.fullmatch(CONSOLE, path.name) and path.is_file():
                found.append((path.stat().st_mtime, path))
    for _, path in sorted(found)[:-CONSOLES]:
        with contextlib.suppress(OSError), path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def tail(path: Path) -> list[str]:
    """Return the last lines of a file."""
    return path.read_text(errors="replace").splitlines()[-10:]


def judge(outcome: Outcome, console: Path, order: Order) -> int:
    """Return the exit code; what the kernel complained about, and limits that were reached, go to stderr."""
    lines = console.read_text(errors="replace").splitlines()
    reports = splats.splats(lines)
    for line in (line for report in reports for line in report):
        say(f"kernel: {line}")
    if any("Out of memory: Killed process" in line for line in lines):
        say(f"the guest's memory was used up (--memory {order.memory}): --memory gives it more")
    if outcome.full:
        say(f"the guest's disk was full, which is 3/4 of its memory (--memory {order.memory}): --memory gives it more")
    if outcome.timed_out:
        say(f"time-out: still running after {order.timeout:g} s (--timeout): {shlex.join(order.command)}")
        return TIME_OUT
    if outcome.status is None:
        say(f"the guest died while it ran: {shlex.join(order.command)}")
        for line in [] if reports else lines[-10:]:
            say(f"  {line}")
        return DIED
    if outcome.wrote:
        number, path = outcome.wrote
        # Elsewhere programs leave what only a person may miss.
        if sys.stderr.isatty() or Path.cwd() in Path(path).parents:
            more = f" and {number - 1} more" if number > 1 else ""
            say(f"gone with the guest: {path}{more}; what is written to the directory of --share stays (--share .)")
    if reports and outcome.status == 0:
        say("the command succeeded, but the kernel complained")
        return SPLAT
    return outcome.status
