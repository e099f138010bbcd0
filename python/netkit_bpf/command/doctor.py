# SPDX-License-Identifier: MIT
"""What this machine has and lacks for this package, and what to do about it."""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from netkit_bpf import vm
from netkit_bpf.bpf.compiler import find_clang
from netkit_bpf.command.output import say, say_json
from netkit_bpf.devices.netns import NetNS
from netkit_bpf.devices.pair import NetkitPair
from netkit_bpf.errors import NotSupportedError
from netkit_bpf.functions.monitor_programs import probe_load
from netkit_bpf.internal import kernel_release, proc
from netkit_bpf.observer.filter import Filter

_FIRST_USER_NAMESPACE = 0xEFFFFFFD  # PROC_USER_INIT_INO, include/linux/proc_ns.h
_PATIENCE = 30.0  # seconds
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_BPF": 39}  # capabilities(7)


class Finding(NamedTuple):
    """One item of the examination.

    Attributes:
        item: what was looked at.
        ok: whether it is there; None if unknown.
        needed: whether the monitor needs it.
        text: what was found, and what to do if it is not there.
    """

    item: str
    ok: bool | None
    needed: bool
    text: str

    def __str__(self) -> str:
        mark = {True: "ok", False: "missing" if self.needed else "no", None: "unknown"}[self.ok]
        return f"{self.item:<10} {mark:<8} {self.text}"


def examine() -> Iterator[Finding]:
    """Examine each item in turn. Leaves nothing behind: probes run in a separate namespace."""
    for item, needed, look in _ITEMS:
        try:
            ok, text = look()
        except OSError as error:  # /proc or /sys may be missing, or closed
            ok, text = None, f"unknown: {error.filename or item}: {error.strerror}"
        yield Finding(item, ok, needed, text)


def _kernel() -> tuple[bool | None, str]:
    release = kernel_release.running()
    numbers = kernel_release.numbers(release)
    if numbers is None:
        return None, f"Linux {release}, a release without numbers; netkit needs 6.7 or later"
    if numbers < (6, 7, 0):
        return False, f"Linux {release}; netkit needs 6.7 or later: boot a newer kernel"
    if (6, 11, 0) <= numbers < (6, 11, 2):
        return True, f"Linux {release}; programs on netkit devices could crash the kernel before 6.11.2: update it"
    return True, f"Linux {release}"


def _privilege() -> tuple[bool, str]:
    effective = 0
    for line in proc.lines("self", "status"):
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
    missing = [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]
    if _in_user_namespace():
        held = ", ".join(name for name in _CAPABILITIES if name not in missing)
        return False, (
            f"in a user namespace, whose capabilities ({held or 'none'}) do not count for BPF: run as root outside of"
            " it; it is impossible in a rootless container, or one with a user namespace"
        )
    if missing:
        return False, f"without {', '.join(missing)}: run as root, or with sudo"
    return True, ", ".join(_CAPABILITIES)


def _in_user_namespace() -> bool:
    """Whether this is not the machine's initial user namespace, in which bpf(2) requires capabilities."""
    try:
        return Path("/proc/self/ns/user").stat().st_ino != _FIRST_USER_NAMESPACE
    except FileNotFoundError:
        return False  # the kernel has none


def _netkit() -> tuple[bool | None, str]:
    try:
        with NetNS.create() as ns, NetkitPair.create("probe", netns=ns):
            return True, "a pair was made and removed in a namespace of its own"
    except PermissionError:
        return _netkit_from_config()
    except NotSupportedError:
        return (
            False,
            f"Linux {kernel_release.running()} has no netkit devices: boot 6.7 or later built with CONFIG_NETKIT=y",
        )
    except OSError as error:
        return None, f"{error.strerror}"


def _netkit_from_config() -> tuple[bool | None, str]:
    """What the kernel's configuration says, for users who may not make a device."""
    for path, opener in ((f"/boot/config-{kernel_release.running()}", open), ("/proc/config.gz", gzip.open)):
        try:
            with opener(path, "rt") as config:
                found = "CONFIG_NETKIT=y\n" in config
        except OSError:
            continue
        return found, f"CONFIG_NETKIT is {'set' if found else 'not set'} in {path}"
    return None, "unknown without privilege: run netkit-bpf doctor as root"


def _load() -> tuple[bool, str]:
    try:
        probe_load()
    except OSError as error:
        return False, f"{error.strerror}"
    return True, "the monitor's programs load"


def _btf() -> tuple[bool, str]:
    path = Path("/sys/kernel/btf/vmlinux")
    if path.exists():
        return True, str(path)
    return False, f"no {path}: programs that read kernel structures do not load; the monitor does"


def _bpffs() -> tuple[bool, str]:
    for mount in proc.mounts():
        if mount.kind == "bpf":
            return True, f"mounted at {mount.target}"
    return False, "pinning needs it: mount -t bpf bpf /sys/fs/bpf"


def _libpcap() -> tuple[bool, str]:
    try:
        Filter("")
    except OSError as error:
        return False, f"{error.strerror}"
    return True, "filters can be compiled"


def _clang() -> tuple[bool, str]:
    try:
        path = find_clang()
        done = subprocess.run([path, "--version"], capture_output=True, timeout=_PATIENCE, check=True)
    except FileNotFoundError as error:
        return False, f"{error.strerror}"
    except (OSError, subprocess.SubprocessError) as error:
        return False, f"{path} does not run: {error}"
    version = os.fsdecode(done.stdout).splitlines()
    return True, f"{path}: {version[0]}" if version else path


def _vm() -> tuple[bool, str]:
    reason = vm.why_not()
    return reason is None, reason or "netkit-bpf vm shell and pytest --netkit=vm boot a kernel that has netkit"


_ITEMS: list[tuple[str, bool, Callable[[], tuple[bool | None, str]]]] = [
    ("kernel", True, _kernel),
    ("privilege", True, _privilege),
    ("netkit", True, _netkit),
    ("BPF", True, _load),
    ("BTF", False, _btf),
    ("bpffs", False, _bpffs),
    ("libpcap", False, _libpcap),
    ("clang", False, _clang),
    ("VM", False, _vm),
]


_ADVICE = (
    "netkit-bpf monitor cannot run here; see above.",
    "It runs in a virtual machine: netkit-bpf vm shell.",
)


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("doctor", help="list what this machine has and lacks, and what to do about it")
    parser.add_argument("--json", action="store_true", help="one JSON list, an object for each")
    parser.set_defaults(run=lambda arguments: main(as_json=arguments.json))


def main(*, as_json: bool = False) -> int:
    """Print one line for each item; the status is 0 if the monitor can run here, else 1."""
    runs, found = True, []
    for finding in examine():
        found.append(finding._asdict())
        if not as_json:
            say(str(finding))
        runs = runs and not (finding.needed and finding.ok is not True)
    if as_json:
        say_json(json.dumps(found))
        return 0 if runs else 1
    say(*(["netkit-bpf monitor can run here."] if runs else _ADVICE))
    return 0 if runs else 1
