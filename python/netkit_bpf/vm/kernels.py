# SPDX-License-Identifier: MIT
"""Debian's cloud kernels, unpacked into the user's cache and never installed; and a kernel at a path."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from netkit_bpf.vm import child, modules
from netkit_bpf.vm.suite import AptError, Suite
from netkit_bpf.vm.words import PLACES

SERIES = re.compile("[0-9]+\\.[0-9]+")  # of two numbers, for its directory and its package have no more
SUITES = ["trixie-backports", "bookworm-backports", "trixie", "bookworm", "sid"]


class KernelError(LookupError):
    """A kernel is not available; the text says what to do."""


@dataclass(frozen=True)
class Kernel:
    """A kernel that can be booted.

    Attributes:
        name: what `get` was asked for, such as "7.2".
        release: what `uname -r` says in it.
        image: the file that is booted.
        modules: what /lib/modules/RELEASE is on an installed system; None if everything is built in.
    """

    name: str
    release: str
    image: Path
    modules: Path | None


def cache_directory() -> Path:
    """The directory for files that can be downloaded again."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "netkit-bpf"


def cached() -> list[Kernel]:
    """The kernels that need no network."""
    return [_opened(entry.parent) for entry in sorted((cache_directory() / "kernels").glob("*/release"))]


def get(name: str) -> Kernel:
    """The kernel of a series, such as "7.2", or at a path.

    A series comes from the cache or else from Debian's mirror. A path, which has a slash, is a boot image, or a
    directory with one that is called `vmlinuz`. Its modules are those in `modules` beside it or in /lib/modules of its
    release, if there are.
    """
    if "/" in name:
        return _at(Path(name))
    if not SERIES.fullmatch(name):
        raise KernelError(f"not a kernel: {name!r}; give a series of two numbers, such as 7.2, or a path with a slash")
    return kept(name, lambda scratch: _download(name, scratch))


def kept(name: str, make: Callable[[Path], Path]) -> Kernel:
    """The kernel of this name from the cache, where it is put if it is absent.

    Processes that ask at the same time wait for each other. Entries appear in the cache atomically.

    Args:
        name: of the entry.
        make: gets an empty directory, and returns one in it that has `vmlinuz`, `modules` and `release`.
    """
    kernels = cache_directory() / "kernels"
    entry = kernels / name
    if (entry / "indexed").exists():
        return _opened(entry)
    kernels.mkdir(parents=True, exist_ok=True)
    with _locked(kernels / f".{name}.lock"):
        if not entry.exists():
            for left in kernels.glob(f".{name}.tmp-*"):  # of a download that was killed
                shutil.rmtree(left)
            with tempfile.TemporaryDirectory(prefix=f".{name}.tmp-", dir=kernels) as scratch:
                try:
                    new = make(Path(scratch))
                except (AptError, OSError, child.ChildError) as error:
                    raise KernelError(f"kernel {name}: {error}") from error
                new.rename(entry)
        kernel = _opened(entry)
        if not (entry / "indexed").exists() and kernel.modules:
            try:
                modules.index(kernel.modules, kernel.release)
            except (OSError, child.ChildError) as error:
                raise KernelError(f"kernel {name}: index its modules: {error}") from error
            (entry / "indexed").touch()
    return kernel


def _opened(entry: Path) -> Kernel:
    there = entry.resolve()  # the guest, which finds the modules by this path, would follow links from its own root
    return Kernel(entry.name, (there / "release").read_text().strip(), there / "vmlinuz", there / "modules")


def _at(path: Path) -> Kernel:
    image = (path / "vmlinuz" if path.is_dir() else path).resolve()
    try:
        release = _release(image)
    except OSError as error:
        raise KernelError(f"kernel {path}: {error.strerror}") from error
    places = [image.parent / "modules", Path("/lib/modules", release), Path("/usr/lib/modules", release)]
    tree = next((place.resolve() for place in places if place.is_dir()), None)
    return Kernel(str(path), release, image, tree)


def _release(image: Path) -> str:
    """What a boot image says of itself: Documentation/arch/x86/boot.rst, kernel_version."""
    with image.open("rb") as file:
        head = file.read(0x10000)
    if head[0x1FE:0x200] != b"\x55\xaa" or head[0x202:0x206] != b"HdrS":
        raise KernelError(f"kernel {image}: not a boot image for x86 (bzImage)")
    (at,) = struct.unpack_from("<H", head, 0x20E)
    return head[at + 0x200 :].partition(b"\0")[0].partition(b" ")[0].decode()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("vm: waiting for another process that downloads this kernel", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(series: str, scratch: Path) -> Path:
    places = PLACES.get(series, [])
    for name in places + [other for other in SUITES if other not in places]:
        suite = Suite(name, scratch / name)
        image = newest_image(suite.names(f"linux-image-{series}."), series)
        if image:
            break
    else:
        raise KernelError(
            f"Debian's mirror no longer has a cloud kernel {series}: ask for another series (netkit-bpf vm kernels)"
        )
    release = image.removeprefix("linux-image-")
    print(f"vm: downloading kernel {release} from Debian's {name}", file=sys.stderr)
    debs = scratch / "debs"
    debs.mkdir()
    for deb in suite.download(_parts(suite, image, release), debs):
        child.run("dpkg-deb", "--extract", str(deb), str(scratch / "root"))
    return _arranged(scratch / "root", release, scratch / "entry")


def newest_image(names: list[str], series: str) -> str | None:
    """The image package of the series' highest version among these names.

    The meta package linux-image-cloud-amd64 names the newest kernel of a suite alone; older series stay there for
    months, so the names are searched instead. Debug and unsigned variants do not count.
    """
    pattern = re.compile(rf"linux-image-{re.escape(series)}\.[0-9.]+([-+][a-z0-9.]+)?-cloud-amd64")
    images = [name for name in names if pattern.fullmatch(name)]
    return max(images, key=_version, default=None)


def _version(image: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", image.removesuffix("-cloud-amd64"))]


def _parts(suite: Suite, image: str, release: str) -> list[str]:
    """The image package and those of the same release that it needs: since 7.x it is an empty one."""
    parts, queue = [], [image]
    while queue:
        package = queue.pop()
        parts.append(package)
        queue += [
            needed
            for needed in suite.dependencies(package)
            if needed.endswith(f"-{release}") and needed not in parts and needed not in queue
        ]
    return parts


def _arranged(root: Path, release: str, entry: Path) -> Path:
    """Take the image and the modules, which have moved from /boot and /lib to /usr/lib over time."""
    trees = [tree for tree in (root / "usr/lib/modules" / release, root / "lib/modules" / release) if tree.exists()]
    images = [*root.glob("boot/vmlinuz-*"), *(tree / "vmlinuz" for tree in trees if (tree / "vmlinuz").exists())]
    if not trees or not images:
        raise KernelError(f"the packages of {release} hold no vmlinuz or no modules: Debian's layout has changed")
    entry.mkdir()
    images[0].rename(entry / "vmlinuz")
    trees[0].rename(entry / "modules")
    (entry / "release").write_text(release + "\n")
    return entry
