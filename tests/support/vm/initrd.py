"""The guest's first file system: a cpio archive with busybox, the modules that lead to the host's root, and an init."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from kernels import Kernel

BUSYBOX = Path("/bin/busybox")
# What the devices of the guest need; one that is absent is built into that kernel. The last ones serve the tests.
MODULES = ["virtio_pci", "virtio_console", "virtiofs", "overlay", "veth"]


class InitrdError(Exception):
    """The archive cannot be made; the text says what to do."""


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


def unpacked(path: Path) -> bytes:
    """Return a module's content, whatever it is compressed with: busybox loads plain ones only."""
    tool = {".xz": "xz", ".zst": "zstd"}.get(path.suffix)
    content = path.read_bytes()
    if tool is None:
        return content
    if tool == "xz":
        with contextlib.suppress(ImportError):  # a Python built by hand may lack it
            import lzma

            return lzma.decompress(content)
    if not shutil.which(tool):
        raise InitrdError(f"{tool} is missing, which {path.name} needs: run tools/setup, or install it")
    return subprocess.run([tool, "-dc"], input=content, stdout=subprocess.PIPE, check=True).stdout


def modules(kernel: Kernel, wanted: Sequence[str]) -> dict[str, bytes]:
    """The wanted modules and what they need, each after what it needs.

    Debian's packages hold no modules.dep, which is made at installation: each module names its own needs.
    """
    files = {path.name.partition(".")[0].replace("-", "_"): path for path in kernel.modules.rglob("*.ko*")}
    ordered: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in ordered or name not in files:
            return
        content = unpacked(files[name])
        found = re.search(rb"\0depends=([^\0]*)\0", content)
        for needed in found.group(1).decode().split(",") if found else []:
            add(needed.replace("-", "_"))
        ordered[name] = content

    for name in wanted:
        add(name.replace("-", "_"))
    return ordered


def busybox() -> bytes:
    """Return the shell and tools of the initrd."""
    content = BUSYBOX.read_bytes() if BUSYBOX.exists() else b""
    if not content or b"/ld-linux" in content[:4096]:
        raise InitrdError("a busybox that needs no libraries is missing: run tools/setup, or install busybox-static")
    return content


def build(kernel: Kernel, command: Sequence[str], cwd: str, environment: dict[str, str], extra: Sequence[str]) -> bytes:
    """An archive that boots, mounts the host's root and runs the command there."""
    archive = Archive()
    for name in ("bin", "dev", "proc", "sys", "new", "modules", "vm"):
        archive.directory(name)
    archive.file("bin/busybox", busybox(), 0o755)
    archive.file("init", (Path(__file__).parent / "guest-init").read_bytes(), 0o755)
    for number, (name, content) in enumerate(modules(kernel, [*MODULES, *extra]).items()):
        archive.file(f"modules/{number:02}-{name}.ko", content)
    words = [f"{name}={value}" for name, value in environment.items()]
    # The host's own env and shell run the command: busybox would prefer its applets to the programs of that name.
    place = shlex.quote(cwd)
    script = (
        f"cd {place} || {{ echo vm: the guest cannot see {place}: start in another directory; exit 2; }}\n"
        f"exec /usr/bin/env -i {shlex.join(words)} {shlex.join(command)}\n"
    )
    archive.file("vm/command", script.encode(errors="surrogateescape"))
    return archive.finish()
