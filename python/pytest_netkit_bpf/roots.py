# SPDX-License-Identifier: MIT
"""What keeps BPF objects alive, found without netkit_bpf's own code, because this check must not rely on that.

Only descriptors, memory mappings, pins and attachments keep a BPF object alive. So those of this process show what it
holds; the kernel's lists of all programs, maps and links would show those of the whole machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

_SYS_BPF = {"x86_64": 321, "aarch64": 280}
_PROG_QUERY = 16
_HOOKS = {46: "tcx ingress", 47: "tcx egress", 54: "netkit primary", 55: "netkit peer"}  # enum bpf_attach_type
_MOST_ON_A_HOOK = 64
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)

own_namespaces: set[str] = set()  # "net:[4026532000]", made by this test run, which owns everything in them


def children() -> Iterator[int]:
    """The descendants of this process, as long as their parents live (proc_tid_children(5))."""
    todo = ["self"]
    while todo:
        process = todo.pop()
        with contextlib.suppress(OSError):  # it has just ended
            for thread in os.listdir(f"/proc/{process}/task"):
                found = _read(f"/proc/{process}/task/{thread}/children").split()
                yield from map(int, found)
                todo += found


def _read(path: str) -> str:
    """Like `Path.read_text`, in a third of the time: all this is done twice for each test."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 # pathlib is the other two thirds
        return file.readall().decode(errors="replace")


def held(process: int) -> Iterator[str]:
    """BPF objects that the process has descriptors of: "program 12"."""
    directory = f"/proc/{process}/fdinfo"
    with contextlib.suppress(OSError):  # it has just ended, or belongs to another user
        for fd in os.listdir(directory):
            with contextlib.suppress(OSError):  # closed meanwhile
                yield from of_descriptor(process, fd)


def of_descriptor(process: int, fd: str) -> Iterator[str]:
    """The objects that a descriptor holds: bpf_link_show_fdinfo() and its like show their numbers."""
    target = os.readlink(f"/proc/{process}/fd/{fd}")
    if "bpf" in target or "btf" in target:
        text = _read(f"/proc/{process}/fdinfo/{fd}")
        for kind, number in re.findall(r"^(prog|map|link|btf)_id:\s*(\d+)$", text, re.MULTILINE):
            yield f"{'program' if kind == 'prog' else kind} {number}"


def mapped() -> Iterator[str]:
    """Mappings of BPF maps into this process's memory, each of which keeps its map."""
    for line in _read("/proc/self/maps").splitlines():
        if "bpf-map" in line:
            yield f"memory of a BPF map at {line.partition('-')[0]}"


def pinned() -> Iterator[str]:
    """The files in all BPF file systems of this mount namespace."""
    for _, place, kind in mounts():
        if kind == "bpf":
            for directory, _, names in os.walk(place):
                yield from (f"pin {directory}/{name}" for name in names if not name.endswith(".debug"))


def mounts() -> Iterator[tuple[int, str, str]]:
    """The mounts of this mount namespace: number, place and kind of file system (proc_pid_mountinfo(5))."""
    for line in os.fsencode(Path("/proc/self/mountinfo").read_text(errors="surrogateescape")).split(b"\n"):
        before, found, after = line.partition(b" - ")
        if found:
            place = re.sub(rb"\\(\d{3})", lambda octal: bytes([int(octal[1], 8)]), before.split()[4])
            yield int(before.split()[0]), os.fsdecode(place), after.split()[0].decode(errors="replace")


def attached(namespace: str) -> list[str]:
    """The programs on the hooks of the devices in the network namespace at a path, with a link or without."""
    found: list[str] = []

    def look() -> None:
        for ifindex, name in socket.if_nameindex():
            found.extend(f"program {number} on {name} ({hook})" for hook, number in _on_hooks(ifindex))

    def look_inside() -> None:
        if _libc.setns(fd, _CLONE_NEWNET) == 0:  # else deleted, or not ours to enter
            look()

    try:
        fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        if os.fstat(fd).st_ino == Path("/proc/thread-self/ns/net").stat().st_ino:
            look()
        else:
            thread = threading.Thread(target=look_inside)  # it ends inside
            thread.start()
            thread.join()
            while Path(f"/proc/self/task/{thread.native_id}").exists():  # for an instant the kernel still has it
                os.sched_yield()
    finally:
        os.close(fd)
    return found


def is_own(kind: str) -> bool:
    """Whether this process lives in a namespace, "net" or "mnt", that the test run made for itself."""
    return os.readlink(f"/proc/self/ns/{kind}") in own_namespaces


def _on_hooks(ifindex: int) -> Iterator[tuple[str, int]]:
    numbers = (ctypes.c_uint32 * _MOST_ON_A_HOOK)()
    for kind, hook in _HOOKS.items():
        attributes = ctypes.create_string_buffer(64)
        query = (ifindex, kind, 0, 0, ctypes.addressof(numbers), _MOST_ON_A_HOOK)
        struct.pack_into("=IIIIQI", attributes, 0, *query)
        if _libc.syscall(_SYS_BPF[platform.machine()], _PROG_QUERY, attributes, len(attributes)) == 0:
            count = struct.unpack_from("=I", attributes.raw, 24)[0]
            yield from ((hook, number) for number in numbers[:count])
