# SPDX-License-Identifier: MIT
"""The guest's first file system: a cpio archive with busybox, the modules that lead to the host's root, and an init."""

from __future__ import annotations

import io
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from netkit_bpf.vm import missing, modules
from netkit_bpf.vm.kernels import Kernel
from netkit_bpf.vm.words import GUEST_ADDRESS

# What the devices of the guest need; one that is absent is built into that kernel. The last ones serve the tests.
MODULES = ["virtio_pci", "virtio_console", "virtiofs", "overlay", "veth"]


class Archive:
    """A cpio archive in the one format that the kernel unpacks ("newc")."""

    def __init__(self) -> None:
        self._out = io.BytesIO()
        self._inode = 0

    def directory(self, name: str) -> None:
        """Add an empty directory."""
        self._entry(name, 0o040755, b"")

    def file(self, name: str, content: bytes, mode: int = 0o644) -> None:
        """Add a regular file."""
        self._entry(name, 0o100000 | mode, content)

    def finish(self) -> bytes:
        """The whole archive."""
        self._entry("TRAILER!!!", 0, b"")
        return self._out.getvalue()

    def _entry(self, name: str, mode: int, content: bytes) -> None:
        self._inode += 1
        path = name.encode() + b"\0"
        # inode mode uid gid nlink mtime size devmajor devminor rdevmajor rdevminor namesize check
        fields = (self._inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
        self._out.write(b"070701" + b"".join(b"%08X" % field for field in fields) + path)
        self._pad()
        self._out.write(content)
        self._pad()

    def _pad(self) -> None:
        self._out.write(b"\0" * (-self._out.tell() % 4))


def build(
    kernel: Kernel,
    command: Sequence[str],
    *,
    cwd: str,
    environment: Mapping[str, str],
    share: Path | None = None,
    extra: Sequence[str] = (),
    has_network: bool = False,
) -> bytes:
    """An archive that boots, mounts the host's root and runs the command there, with the `extra` modules loaded."""
    archive = Archive()
    for name in ("bin", "dev", "proc", "sys", "new", "modules", "vm"):
        archive.directory(name)
    archive.file("bin/busybox", missing.busybox().read_bytes(), 0o755)
    archive.file("init", (Path(__file__).parent / "guest-init").read_bytes(), 0o755)
    wanted = [*MODULES, *(["virtio_net"] if has_network else []), *extra]
    for number, (name, content) in enumerate(modules.with_needs(kernel.modules, wanted).items()):
        archive.file(f"modules/{number:02}-{name}.ko", content)
    indexed = kernel.modules if kernel.modules and (kernel.modules / "modules.dep").exists() else ""
    places = f"share={shlex.quote(str(share or ''))}\nmodules={shlex.quote(str(indexed))}\n"
    places += f"address={GUEST_ADDRESS if has_network else ''}\nplace={shlex.quote(cwd)}\n"
    archive.file("vm/places", places.encode(errors="surrogateescape"))
    words = [f"{name}={value}" for name, value in environment.items()]
    # The host's own env and shell run the command: busybox would prefer its applets to the programs of that name.
    place = shlex.quote(cwd)
    script = (
        f"cd {place} || {{ echo vm: the guest cannot see {place}: start in another directory >&2; exit 2; }}\n"
        f"exec /usr/bin/env -i {shlex.join(words)} {shlex.join(command)}\n"
    )
    archive.file("vm/command", script.encode(errors="surrogateescape"))
    return archive.finish()
