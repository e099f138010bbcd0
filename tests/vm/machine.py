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

import view

VIRTIOFSD = [Path("/usr/libexec/virtiofsd"), Path("/usr/lib/qemu/virtiofsd"), Path("/usr/lib/virtiofsd")]
# Loading 200 MB of modules would take less; a host that is very busy needs more than the usual 4 to 8 seconds.
BOOT_LIMIT = 90.0
POWER_OFF_LIMIT = 10.0


class MachineError(Exception):
    """The machine cannot be started; the text says what to do."""


@dataclass
class Setup:
    """What to boot."""

    image: Path
    initrd: Path
    root: Path
    share: Path
    console: Path
    memory: str = "2G"
    kvm: bool = False
    timeout: float = 300.0


@dataclass
class Outcome:
    """How a run ended. `status` is the command's, None when the guest ended without one."""

    started: bool = False
    timed_out: bool = False
    status: int | None = None
    boot_seconds: float = 0.0
    seconds: float = 0.0


def tool(name: str) -> str:
    """The path of a program, also of one in a directory that only root has on PATH."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin")
    if not found:
        raise MachineError(f"{name} is missing: run tools/setup (NETKIT_BPF_VM=1 tools/setup where the kernel has netkit)")
    return found


def _virtiofsd(tag: str, directory: Path, children: list[subprocess.Popen[bytes]]) -> list[str]:
    """Start a file server for the directory and return QEMU's arguments for it."""
    program = next((path for path in VIRTIOFSD if path.exists()), None)
    if program is None:
        raise MachineError("virtiofsd is missing: run tools/setup (NETKIT_BPF_VM=1 tools/setup where the kernel has netkit)")
    # The root never changes under the guest, the share may be read by the host at any time.
    cache = "always" if tag == "root" else "auto"
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
        children.append(_start(words, [listener.fileno()]))
    return [
        *("-chardev", f"socket,id={tag},path={path}"),
        *("-device", f"vhost-user-fs-pci,chardev={tag},tag={tag},queue-size=1024"),
    ]


def _start(words: list[str], fds: list[int], stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    # The standard output is the command's alone.
    return subprocess.Popen(
        words, stdin=stdin, stdout=2, pass_fds=fds, preexec_fn=view.die_with_parent, start_new_session=True
    )


def _qemu(setup: Setup, output: int, status: int) -> list[str]:
    if setup.kvm:
        processor = ["-accel", "kvm", "-cpu", "host"]
    else:
        # QEMU 7.2 emulates cmpxchg16b wrongly: with it, most 6.12 guests crash.
        processor = ["-accel", "tcg,thread=single", "-cpu", "max,-cx16"]
    kernel_line = (
        "console=ttyS0 loglevel=5 panic=-1 oops=panic mitigations=off audit=0 selinux=0 apparmor=0 random.trust_cpu=on "
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


@dataclass
class Machine:
    """A running machine. `emit` gets the command's output as it comes. Use from one thread."""

    setup: Setup
    emit: Callable[[bytes], None]
    _children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self) -> Outcome:
        """Boot, run to the end and leave no process behind."""
        try:
            return self._run()
        finally:
            for child in self._children:
                child.kill()
                child.wait()

    def _run(self) -> Outcome:
        output, output_guest = socket.socketpair()
        status, status_guest = socket.socketpair()
        with output, status:
            with output_guest, status_guest:
                words = _qemu(self.setup, output_guest.fileno(), status_guest.fileno())
                for tag, directory in (("root", self.setup.root), ("share", self.setup.share)):
                    words += _virtiofsd(tag, directory, self._children)
                # A pipe that nobody writes to or closes: without it the guest's writes to its ports can block.
                fds = [output_guest.fileno(), status_guest.fileno()]
                qemu = _start(words, fds, stdin=subprocess.PIPE)
                self._children.insert(0, qemu)
            return self._converse(output, status)

    def _converse(self, output: socket.socket, status: socket.socket) -> Outcome:
        outcome = Outcome()
        begin = time.monotonic()
        deadline = begin + BOOT_LIMIT
        told = b""
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            selector.register(status, selectors.EVENT_READ)
            while selector.get_map():
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
                    outcome.boot_seconds = time.monotonic() - begin
                    deadline = time.monotonic() + self.setup.timeout
                if outcome.status is None and b"exit " in told and told.endswith(b"\n"):
                    outcome.status = int(told.rpartition(b"exit ")[2])
                    deadline = time.monotonic() + POWER_OFF_LIMIT
                if not ready and time.monotonic() >= deadline:
                    outcome.timed_out = outcome.started and outcome.status is None
                    break
        outcome.seconds = time.monotonic() - begin
        return outcome
