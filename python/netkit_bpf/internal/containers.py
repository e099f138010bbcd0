# SPDX-License-Identifier: MIT
"""Which processes are in which container: cgroups(7). No runtime is asked.

Runtimes name a container's cgroup by its id, 64 hexadecimal digits: `docker-ID.scope`, `libpod-ID.scope`,
`cri-containerd-ID.scope` and `crio-ID.scope` where systemd makes the cgroups, `docker/ID`, `libpod_parent/libpod-ID`
and `kubepods/burstable/podUID/ID` elsewhere. Each line of /proc/PID/cgroup, one with cgroup v2 and several with v1, has
the path.

Whoever is given a cgroup chooses the names below it. So a process belongs to the first container on its path: what a
container calls its own cgroups is not believed. Users have cgroups too, for containers without root; if one has the id
of a container that the system started, the system's is meant.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from netkit_bpf._core import Namespace
from netkit_bpf.internal.proc import mounts

PROC = Path("/proc")
_ID = r"(?:.*[-:])?([0-9a-f]{64})(?:\.scope)?"
_POD = r"(?:.*-)?pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?"  # Kubernetes
_PODMAN_POD = r"machine-libpod_pod_([0-9a-f]{64})\.slice"
_MOST_LISTED = 10
_SHORT = 12  # digits, as runtimes print them


class Place(NamedTuple):
    """Where a process is, as one path of its cgroups says.

    Attributes:
        container: the id of its container.
        pod: the id of its pod; "" if it has none.
        by_user: whether a user's processes chose the name, or those of a service.
        inside: ids that the container gives to cgroups of its own.
    """

    container: str
    pod: str
    by_user: bool
    inside: tuple[str, ...]

    @property
    def name(self) -> tuple[str, str, bool]:
        """What identifies it, wherever in the container a process is."""
        return self[:3]

    @classmethod
    def of(cls, path: str) -> Place | None:
        """The place that a path names; None if there is no container on it."""
        parts = path.split("/")
        container = pod = ""
        by_user = False
        for number, part in enumerate(parts):
            if found := re.fullmatch(_POD, part) or re.fullmatch(_PODMAN_POD, part):
                pod = found[1].replace("_", "-")
            elif number and parts[number - 1] == "libpod_parent" and re.fullmatch(r"[0-9a-f]{64}", part):
                pod = part
            elif container := _container(part):
                inside = tuple(filter(None, map(_container, parts[number + 1 :])))
                return cls(container, pod, by_user, inside)
            by_user = by_user or part == "user.slice" or part.endswith(".service")
        return None


def _container(part: str) -> str:
    """The id in a cgroup's name; not in that of the process that watches over a container (conmon)."""
    found = re.fullmatch(_ID, part)
    return found[1] if found and "conmon" not in part else ""


class Process(NamedTuple):
    """A process, and where it is."""

    pid: int
    place: Place


def processes(proc: Path = PROC) -> Iterator[Process]:
    """All processes that are in a container, as far as this process may see them."""
    for directory in sorted(proc.iterdir()):
        if directory.name.isdecimal():
            with contextlib.suppress(OSError):  # it has ended
                if place := _place(_paths((directory / "cgroup").read_bytes())):
                    yield Process(int(directory.name), place)


def _paths(text: bytes) -> set[str]:
    """The paths in a /proc/PID/cgroup: each line is NUMBER:CONTROLLERS:PATH.

    No path has a newline in it, but it may have any other character that ends a line for str.splitlines().
    """
    return {fields[2] for line in os.fsdecode(text).split("\n") if len(fields := line.split(":", 2)) == 3}


def _place(paths: set[str]) -> Place | None:
    """The place that all hierarchies agree on which name a container at all."""
    places = [place for path in sorted(paths) if (place := Place.of(path))]
    return places[0] if len({place.container for place in places}) == 1 else None


def find(which: str, proc: Path = PROC) -> tuple[str, list[Process]]:
    """Find a container or a pod.

    Args:
        which: its id, or the beginning of it.
        proc: where /proc is.

    Returns:
        What it is, for messages, and its processes.

    Raises:
        ValueError: this cannot be an id.
        LookupError: there is none, or more than one; the text lists what there is.
    """
    if not re.fullmatch(r"[0-9a-f-]{1,64}", which):
        raise ValueError(
            f"{which!r} is not the id of a container: hexadecimal digits; its runtime knows it by the name"
        )
    found = [*processes(proc)]
    matches = {each.place.container for each in found if each.place.container.startswith(which)}
    pods = {each.place.pod for each in found if each.place.pod.startswith(which)} - {""}
    if len(matches | pods) > 1:
        names = [f"container {_short(each)}" for each in sorted(matches)] + [f"pod {each}" for each in sorted(pods)]
        raise LookupError(f"{which} is the beginning of more than one id: {_list(names)}")
    if pods:
        (pod,) = pods
        return f"pod {pod}", _firmest([each for each in found if each.place.pod == pod])
    if matches:
        (container,) = matches
        return f"container {_short(container)}", _firmest([each for each in found if each.place.container == container])
    for each in found:
        if any(name.startswith(which) for name in each.place.inside):
            raise LookupError(
                f"container {which} runs inside container {_short(each.place.container)}, whose word for it is not"
                " believed: give the id of a process in it"
            )
    there = sorted({_short(each.place.container) for each in found})
    raise LookupError(
        f"no process here is in a container {which}: {f'there are {_list(there)}' if there else 'in none'}"
    )


def _firmest(found: list[Process]) -> list[Process]:
    return [each for each in found if not each.place.by_user] or found


def _short(name: str) -> str:
    return name[:_SHORT]


def _list(names: list[str]) -> str:
    more = len(names) - _MOST_LISTED
    return ", ".join(names[:_MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def namespaces_of(which: str) -> tuple[str, list[Namespace]]:
    """The network namespaces that the processes of a container or a pod live in, but the machine's and the caller's.

    Returns:
        What it is, for messages, and the namespaces, each once.

    Raises:
        ValueError, LookupError: as `find`; LookupError also if the container has no namespace of its own.
        PermissionError: the processes belong to another user, and CAP_SYS_PTRACE is missing.
    """
    what, found = find(which)
    chosen = {each.place.name for each in found}

    def is_in(paths: set[str]) -> bool:
        place = _place(paths)
        return place is not None and place.name in chosen

    return what, _own_namespaces(what, [each.pid for each in found], is_in)


def namespaces_in(cgroup: PurePosixPath) -> tuple[str, list[Namespace]]:
    """The same for the processes in a cgroup and in those below it, by its path as `cgroup_of` gives it."""

    def is_in(paths: set[str]) -> bool:
        return any(PurePosixPath(path).is_relative_to(cgroup) for path in paths)

    found = [int(each.name) for each in PROC.iterdir() if each.name.isdecimal()]
    return f"cgroup {cgroup}", _own_namespaces(f"cgroup {cgroup}", found, is_in)


def cgroup_of(path: str) -> PurePosixPath | None:
    """The cgroup whose directory this is, as /proc/PID/cgroup names it; None if the path is somewhere else."""
    wanted = PurePosixPath(posixpath.normpath(Path(path).absolute()))  # links are not followed
    for mount in mounts():
        if mount.kind in {"cgroup", "cgroup2"} and wanted.is_relative_to(mount.target):
            return PurePosixPath("/", wanted.relative_to(mount.target))
    return None


def _own_namespaces(what: str, pids: list[int], is_in: Callable[[set[str]], bool]) -> list[Namespace]:
    spaces = {space.identity(): space for pid in pids if (space := _namespace(pid, is_in))}
    if not spaces:
        raise LookupError(f"no process is left in {what}")
    shared = {Namespace.current().identity()}
    with contextlib.suppress(OSError):
        shared.add(Namespace.open(b"/proc/1/ns/net", b"of process 1").identity())
    own = [space for identity, space in spaces.items() if identity not in shared]
    if not own:
        raise LookupError(
            f"{what} has no network namespace of its own: it lives in the machine's, or in this process's"
        )
    return own


def _namespace(pid: int, is_in: Callable[[set[str]], bool]) -> Namespace | None:
    """The network namespace of a process; None if it has ended, or is somewhere else meanwhile.

    Both are read through one descriptor of its directory, which never leads to another process that gets the same id.
    """
    try:
        directory = os.open(PROC / str(pid), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if not is_in(_paths(_read("cgroup", directory))):
            return None
        return Namespace.open(f"/proc/thread-self/fd/{directory}/ns/net".encode(), f"of process {pid}".encode())
    except (FileNotFoundError, ProcessLookupError):
        return None
    finally:
        os.close(directory)


def _read(name: str, directory: int) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    with os.fdopen(fd, "rb") as file:
        return file.read()
