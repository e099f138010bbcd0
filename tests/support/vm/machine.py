"""One virtual machine: QEMU, the two shares, and the channels to the guest."""

from __future__ import annotations

import os
import selectors
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import child
import view

VIRTIOFSD = [Path("/usr/libexec/virtiofsd"), Path("/usr/lib/qemu/virtiofsd"), Path("/usr/lib/virtiofsd")]
MISSING = "{} is missing: run tools/setup (where this kernel has netkit: NETKIT_BPF_VM=1 tools/setup)"
POWER_OFF_LIMIT = 10.0


class MachineError(Exception):
    """The machine cannot be started; the text says what to do."""


@dataclass
class Setup:
    """What to boot, and for how long. `log` takes what QEMU and the file servers say."""

    image: Path
    initrd: Path
    root: Path
    share: Path
    console: Path
    log: Path
    memory: str = "2G"
    kvm: bool = False
    timeout: float = 300.0
    # Far above the usual 3 to 8 seconds: the host may be very busy.
    boot_limit: float = 90.0


@dataclass
class Outcome:
    """How a run ended. `status` is the command's, None when the guest ended without one."""

    started: bool = False
    timed_out: bool = False
    status: int | None = None


def tool(name: str) -> str:
    """Find a program, also in a directory that only root has on PATH."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin")
    if not found:
        raise MachineError(MISSING.format(name))
    return found


@dataclass
class Machine:
    """A machine that runs once. `emit` gets the command's output as it comes. Use from one thread."""

    setup: Setup
    emit: Callable[[bytes], None]
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
        output, output_guest = socket.socketpair()
        status, status_guest = socket.socketpair()
        with output, status:
            with output_guest, status_guest:
                words = self._qemu(output_guest.fileno(), status_guest.fileno())
                # The root does not change under the guest; the host may read the share at any time.
                words += self._file_server("root", self.setup.root, cache="always")
                words += self._file_server("share", self.setup.share, cache="auto")
                # A pipe that nobody writes to or closes: without it the guest's writes to its ports can block.
                self._start(words, output_guest.fileno(), status_guest.fileno(), stdin=subprocess.PIPE)
            return self._converse(output, status)

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
        program = next((path for path in VIRTIOFSD if path.exists()), None)
        if program is None:
            raise MachineError(MISSING.format("virtiofsd"))
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

    def _qemu(self, output: int, status: int) -> list[str]:
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
            *(tool("qemu-system-x86_64"), "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
            *("-machine", "q35,memory-backend=memory", *processor, "-smp", "2", "-m", setup.memory),
            *("-object", f"memory-backend-memfd,id=memory,size={setup.memory},share=on"),
            *("-kernel", str(setup.image), "-initrd", str(setup.initrd), "-append", kernel_line),
            *("-chardev", f"file,id=console,path={setup.console}", "-serial", "chardev:console"),
            *("-device", "virtio-serial-pci"),
            *("-chardev", f"socket,id=output,fd={output}", "-device", "virtserialport,chardev=output,name=output"),
            *("-chardev", f"socket,id=status,fd={status}", "-device", "virtserialport,chardev=status,name=status"),
        ]

    def _converse(self, output: socket.socket, status: socket.socket) -> Outcome:
        outcome = Outcome()
        deadline = time.monotonic() + self.setup.boot_limit
        told = b""
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            selector.register(status, selectors.EVENT_READ)
            while selector.get_map():  # both channels end when QEMU does
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                for key, _ in ready:
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is output:
                        self.emit(data)
                    else:
                        told += data
                if not outcome.started and b"start\n" in told:
                    outcome.started = True
                    deadline = time.monotonic() + self.setup.timeout
                if outcome.status is None and b"exit " in told and told.endswith(b"\n"):
                    outcome.status = int(told.rpartition(b"exit ")[2])
                    deadline = time.monotonic() + POWER_OFF_LIMIT
                # Once the status is known, output that still comes is not cut off.
                if time.monotonic() >= deadline and not (ready and outcome.status is not None):
                    outcome.timed_out = outcome.started and outcome.status is None
                    break
        return outcome
