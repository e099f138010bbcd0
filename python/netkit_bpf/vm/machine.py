# SPDX-License-Identifier: MIT
"""One virtual machine: QEMU, the two shares, and the channels to the guest."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from netkit_bpf.vm import child, missing, view
from netkit_bpf.vm.words import GUEST_ADDRESS

POWER_OFF_LIMIT = 10.0


@dataclass
class Setup:
    """What to boot, and for how long.

    Attributes:
        log: gets the messages of QEMU and the file servers.
        publish: TCP ports of this machine's 127.0.0.1, and those of the guest that they lead to.
        stdin: a descriptor that the command's standard input is read from, None for an empty one.
        watched: a descriptor of a process, with whose end the machine ends.
    """

    image: Path
    initrd: Path
    root: Path
    share: Path
    console: Path
    log: Path
    memory: str = "2G"
    cpus: int = 2
    publish: list[tuple[int, int]] = field(default_factory=list)
    stdin: int | None = None
    watched: int | None = None
    kvm: bool = False
    timeout: float = 300.0
    # Far above the usual 3 to 8 seconds: the host may be very busy.
    boot_limit: float = 90.0


@dataclass
class Outcome:
    """How a run ended.

    Attributes:
        status: the command's, None when the guest ended without one.
        full: the layer of the guest's own writes had no space left.
        wrote: how many files the command wrote to that layer, and one of them.
        deserted: the watched process ended.
    """

    started: bool = False
    timed_out: bool = False
    deserted: bool = False
    status: int | None = None
    full: bool = False
    wrote: tuple[int, str] | None = None


@dataclass
class Machine:
    """A machine that runs once. `emit` gets 1 or 2, and what the command writes there. Use from one thread."""

    setup: Setup
    emit: Callable[[int, bytes], None]
    _children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self) -> Outcome:
        """Boot, run to the end and leave no process behind."""
        try:
            return self._run()
        finally:
            # QEMU was started last and ends first: a file server that loses it ends by itself.
            for process in reversed(self._children):
                process.kill()
                process.wait()

    def _run(self) -> Outcome:
        with ExitStack() as ours, ExitStack() as guests:
            ports: dict[str, socket.socket] = {}
            words: list[str] = []
            fds: list[int] = []
            for name in ("input", "output", "errors", "status"):
                ports[name], end = socket.socketpair()
                ours.enter_context(ports[name])
                guests.enter_context(end)
                words += _port(name, end.fileno())
                fds.append(end.fileno())
            words = [*self._qemu(), *words]
            # The root does not change under the guest; the host may read the share at any time.
            words += self._file_server("root", self.setup.root, cache="always")
            words += self._file_server("share", self.setup.share, cache="auto")
            # A pipe that nobody writes to or closes: without it the guest's writes to its ports can block.
            self._start(words, *fds, stdin=subprocess.PIPE)
            guests.close()
            return self._converse(ports)

    def _start(self, words: list[str], *fds: int, stdin: int = subprocess.DEVNULL) -> None:
        with self.setup.log.open("ab") as log:
            process = subprocess.Popen(
                words,
                stdin=stdin,
                stdout=log,
                stderr=log,
                pass_fds=fds,
                preexec_fn=child.bound(),
                start_new_session=True,  # Ctrl-C is for the runner, which ends them in order
            )
        self._children.append(process)

    def _file_server(self, tag: str, directory: Path, cache: str) -> list[str]:
        """Start virtiofsd for the directory and return QEMU's arguments for it."""
        program = missing.virtiofsd()
        path = view.SCRATCH / f"{tag}.sock"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            # Listening before either side starts: neither has to wait for the other.
            listener.bind(str(path))
            listener.listen(1)
            words = [str(program), f"--fd={listener.fileno()}"]
            if program.parent.name == "qemu":  # the C program of QEMU up to 7.2
                words += ["-f", "-o", f"source={directory},cache={cache},sandbox=chroot,log_level=err"]
            else:
                words += [f"--shared-dir={directory}", f"--cache={cache}", "--sandbox=chroot", "--log-level=error"]
                # Overlayfs refuses directories that FUSE would mount on first use.
                words += ["--no-announce-submounts"]
            self._start(words, listener.fileno())
        return [
            *("-chardev", f"socket,id={tag},path={path}"),
            *("-device", f"vhost-user-fs-pci,chardev={tag},tag={tag},queue-size=1024"),
        ]

    def _qemu(self) -> list[str]:
        setup = self.setup
        processor = ["-accel", "kvm", "-cpu", "host"] if setup.kvm else ["-accel", "tcg,thread=single", "-cpu", "max"]
        kernel_line = (
            "console=ttyS0 loglevel=5 panic=-1 oops=panic "
            # What an emulated processor pays for and nobody needs here: a second of four.
            "mitigations=off nokaslr cryptomgr.notests audit=0 selinux=0 apparmor=0 random.trust_cpu=on "
            "tsc=reliable no_timer_check rcupdate.rcu_expedited=1 8250.nr_uarts=1 "
            # QEMU 7.2 emulates cmpxchg16b (feature 141) wrongly: most 6.12 guests that use it crash. Only the kernel
            # does without: programs built for x86-64-v2 refuse a processor that lacks it.
            "clearcpuid=141 "
            # Emulated time stands still while the host is busy: a stall says nothing about the kernel.
            "nowatchdog rcupdate.rcu_cpu_stall_suppress=1"
        )
        return [
            *(missing.tool("qemu-system-x86_64"), "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
            *("-machine", "q35,memory-backend=memory", *processor, "-smp", str(setup.cpus), "-m", setup.memory),
            *("-object", f"memory-backend-memfd,id=memory,size={setup.memory},share=on"),
            *("-kernel", str(setup.image), "-initrd", str(setup.initrd), "-append", kernel_line),
            *("-chardev", f"file,id=console,path={setup.console}", "-serial", "chardev:console"),
            *("-device", "virtio-serial-pci"),
            *(self._network() if setup.publish else ()),
        ]

    def _network(self) -> list[str]:
        """A network card by which ports are reached from here, and nothing else from there."""
        rules = [f"hostfwd=tcp:127.0.0.1:{here}-{GUEST_ADDRESS}:{there}" for here, there in self.setup.publish]
        return [
            *("-netdev", ",".join(["user,id=network,restrict=on", *rules])),
            *("-device", "virtio-net-pci,netdev=network,romfile="),
        ]

    def _converse(self, ports: dict[str, socket.socket]) -> Outcome:
        outcome = Outcome()
        deadline = time.monotonic() + self.setup.boot_limit
        told = b""
        with selectors.DefaultSelector() as selector:
            for name in ("output", "errors", "status"):
                selector.register(ports[name], selectors.EVENT_READ, name)
            if self.setup.watched is not None:
                selector.register(self.setup.watched, selectors.EVENT_READ, "watched")
            while {"output", "errors", "status"} & {
                key.data for key in selector.get_map().values()
            }:  # QEMU has them open
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                for key, _ in ready:
                    if key.data == "watched":
                        outcome.deserted = True
                        return outcome
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.data == "status":
                        told += data
                    else:
                        self.emit(1 if key.data == "output" else 2, data)
                if not outcome.started and b"start\n" in told:
                    outcome.started = True
                    deadline = time.monotonic() + self.setup.timeout
                    self._feed(ports["input"])
                if outcome.status is None and b"exit " in told and told.endswith(b"\n"):
                    _take(outcome, told.decode(errors="replace"))
                    deadline = time.monotonic() + POWER_OFF_LIMIT
                # Once the status is known, output that still comes is not cut off.
                if time.monotonic() >= deadline and not (ready and outcome.status is not None):
                    outcome.timed_out = outcome.started and outcome.status is None
                    break
        return outcome

    def _feed(self, port: socket.socket) -> None:
        """Pass on standard input; in a thread, because no selector takes every kind of file."""
        stdin = self.setup.stdin
        if stdin is None:
            port.shutdown(socket.SHUT_WR)
            return

        def feed() -> None:
            with contextlib.suppress(OSError):  # the guest has ended, or standard input cannot be read
                while data := os.read(stdin, 1 << 16):
                    port.sendall(data)
            with contextlib.suppress(OSError):
                port.shutdown(socket.SHUT_WR)

        threading.Thread(target=feed, daemon=True).start()


def _port(name: str, fd: int) -> list[str]:
    """QEMU's arguments for a port whose other end has this descriptor."""
    return [
        *("-chardev", f"socket,id={name},fd={fd}"),
        *("-device", f"virtserialport,chardev={name},name={name}"),
    ]


def _take(outcome: Outcome, told: str) -> None:
    """Read what the guest's init says at its end."""
    for line in told.splitlines():
        word, _, rest = line.partition(" ")
        if word == "exit":
            outcome.status = int(rest)
        elif word == "full":
            outcome.full = True
        elif word == "wrote":
            number, _, path = rest.partition(" ")
            outcome.wrote = int(number), path
