"""Debian's cloud kernels, unpacked into the user's cache and never installed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import child
from suite import AptError, Suite

# Where a series was last seen, best first: small lists come before large ones. A suite moves on to newer series, so
# any other series, and one that has left its place, is looked for in every suite.
PLACES = {
    "6.1": ["bookworm"],
    "6.12": ["bookworm-backports", "trixie"],
    "7.2": ["trixie-backports", "sid"],
}
SERIES = re.compile("[0-9]+\\.[0-9]+")  # of two numbers, for its directory and its package have no more
SUITES = ["trixie-backports", "bookworm-backports", "trixie", "bookworm", "sid"]


class KernelError(Exception):
    """A kernel cannot be had; the text says what to do."""


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel: `vmlinuz` and `modules/` in its directory."""

    series: str
    directory: Path

    @property
    def release(self) -> str:
        """What `uname -r` says in it."""
        return (self.directory / "release").read_text().strip()

    @property
    def image(self) -> Path:
        """The boot image."""
        return self.directory / "vmlinuz"

    @property
    def modules(self) -> Path:
        """The directory that /lib/modules/RELEASE is on an installed system."""
        return self.directory / "modules"


def cache_directory() -> Path:
    """Where this project keeps what it can get again."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "netkit-bpf"


def cached() -> list[Kernel]:
    """The kernels that need no network."""
    found = [
        entry for entry in (cache_directory() / "kernels").glob("*/release") if SERIES.fullmatch(entry.parent.name)
    ]
    return [Kernel(entry.parent.name, entry.parent) for entry in sorted(found)]


def get(series: str) -> Kernel:
    """The kernel of this series, such as "7.2", from the cache or else from Debian's mirror.

    Processes that ask at once wait for each other. An entry appears in the cache whole or not at all.
    """
    if not SERIES.fullmatch(series):
        raise KernelError(f"not a kernel series: {series!r}; give two numbers, such as 7.2")
    kernels = cache_directory() / "kernels"
    kernel = Kernel(series, kernels / series)
    if kernel.directory.exists():
        return kernel
    kernels.mkdir(parents=True, exist_ok=True)
    with _locked(kernels / f".{series}.lock"):
        if kernel.directory.exists():
            return kernel
        for left in kernels.glob(f".{series}.tmp-*"):  # of a download that was killed
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix=f".{series}.tmp-", dir=kernels) as scratch:
            try:
                entry = _download(series, Path(scratch))
            except (AptError, OSError, child.ChildError) as error:
                raise KernelError(f"kernel {series}: {error}") from error
            entry.rename(kernel.directory)
    return kernel


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
        raise KernelError(f"Debian's mirror no longer has a cloud kernel {series}: ask for another series (--list)")
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
