# SPDX-License-Identifier: MIT
"""Run commands under another kernel: in a virtual machine that sees this machine's files.

    from netkit_bpf import vm

    done = vm.run(["uname", "-r"], kernel="7.2", capture_output=True)
    assert done.stdout.startswith(b"7.2.")

A guest boots in some seconds, also without KVM. It sees the host's files read-only, under a layer of its own that is
discarded at its end, so it may write anywhere; what it writes to the directory `share` stays. It has no network, but
TCP ports that are published are reached from here.
Kernels are those of Debian's cloud images, downloaded once to ~/.cache/netkit-bpf and never installed, or any other at
a path. This takes root (or sudo without a password), x86_64, QEMU, virtiofsd and busybox-static, and apt-get for
the download: `why_not` says what is missing.

Exit statuses beside the command's own: SPLAT (123), it succeeded but the kernel complained; TIME_OUT (124); DIED (125),
the guest ended without a status; NO_BOOT (126), it could not be started.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netkit_bpf.vm.words import DEFAULT, DIED, NO_BOOT, PLACES, SPLAT, TIME_OUT, WITH_NETKIT

if TYPE_CHECKING:
    from netkit_bpf.vm.kernels import Kernel, KernelError, cached, get

__all__ = [
    "DEFAULT",
    "DIED",
    "NO_BOOT",
    "PLACES",
    "SPLAT",
    "TIME_OUT",
    "WITH_NETKIT",
    "Kernel",
    "KernelError",
    "cached",
    "command_line",
    "get",
    "run",
    "start",
    "why_not",
]


def __getattr__(name: str) -> Any:
    """Import what has to do with kernels when it is asked for: the command imports this module whatever it does."""
    if name in ("Kernel", "KernelError", "cached", "get"):
        from netkit_bpf.vm import kernels

        return getattr(kernels, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def why_not() -> str | None:
    """Why no virtual machine can be started here, and what to install; None if nothing is known to be in the way."""
    from netkit_bpf.vm import missing

    try:
        missing.check()
    except missing.MissingError as error:
        return str(error)
    if os.geteuid() and subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode:
        return "a virtual machine's mounts need root: run as root, or let sudo ask for no password"
    return None


def command_line(
    command: Sequence[str],
    *,
    kernel: str = DEFAULT,
    timeout: float = 300.0,
    share: str | Path | None = None,
    memory: str = "2G",
    cpus: int = 2,
    modules: Sequence[str] = (),
    publish: Mapping[int, int] | None = None,
    console: str | Path | None = None,
) -> list[str]:
    """The arguments of a process that runs the command in a guest, and ends with this process.

    Args:
        command: program and arguments, found as on this machine.
        kernel: a series of Debian's, such as "7.2", or a path (with a slash) to a boot image.
        timeout: seconds from the command's start.
        share: a directory that the guest can write to, there and at /mnt/share.
        memory: of the guest, as QEMU takes it; three quarters of it may hold files that the guest writes.
        cpus: how many the guest has.
        modules: kernel modules to load first. The kernel loads those that it asks for, such as sch_netem, by itself.
        publish: TCP ports of 127.0.0.1 here, and for each the guest's that it leads to. A server in the guest must
            listen on all addresses, or on 10.0.2.15.
        console: a file for the kernel's messages.
    """
    options = ["--kernel", kernel, "--timeout", f"{timeout:g}", "--memory", memory, "--cpus", str(cpus)]
    options += [word for module in modules for word in ("--module", module)]
    options += [word for here, there in (publish or {}).items() for word in ("--publish", f"{here}:{there}")]
    options += ["--share", str(share)] if share else []
    options += ["--console", str(console)] if console else []
    words = [sys.executable, "-m", "netkit_bpf", "vm", "run", *options, "--watch", str(os.getpid())]
    return [*words, "--", *command]


def start(command: Sequence[str], *, popen: dict[str, Any] | None = None, **options: Any) -> subprocess.Popen[bytes]:
    """Start a command in a guest, and return the process that stands for it: its pipes and status are the command's.

    Args:
        command: program and arguments.
        popen: arguments of `subprocess.Popen`, such as `stdin` and `stdout`.
        options: those of `command_line`.
    """
    return subprocess.Popen(command_line(command, **options), **(popen or {}))


def run(
    command: Sequence[str],
    *,
    input: bytes = b"",  # noqa: A002 # as subprocess.run has it
    capture_output: bool = False,
    check: bool = False,
    **options: Any,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a guest to its end: `subprocess.run`, with the options of `command_line`.

    Args:
        command: program and arguments.
        input: what the command reads from its standard input.
        capture_output: return its output in `stdout` and `stderr`.
        check: raise `subprocess.CalledProcessError` unless the status is 0.
        options: those of `command_line`.
    """
    line = command_line(command, **options)
    return subprocess.run(line, input=input, capture_output=capture_output, check=check)
