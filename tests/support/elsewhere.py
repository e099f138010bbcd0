"""Tests that are about other kernels, or other machines: the only skips that --netkit=require lets pass."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from netkit_bpf import NetNS
from netkit_bpf.internal.kernel_release import is_at_least
from veth import has_tcx

Skipped: type[BaseException] = pytest.skip.Exception


class OnOtherKernels(Skipped):  # type: ignore[misc, valid-type]
    """This test is not about the running kernel; it runs on another one of the matrix."""


def only_where(applies: bool, what: str) -> None:
    """Skip the test unless it `applies` here; `what` names the kernels that it is about: "Linux 7.1 or later"."""
    if not applies:
        raise OnOtherKernels(f"only on {what}", allow_module_level=True)


def need_device_kind(kind: str) -> None:
    """Skip the test where the kernel has no such devices: it was built without, or its module is not installed."""
    with NetNS.create() as netns:
        made = netns.run(["ip", "link", "add", "probe", "type", kind], check=False, stderr=subprocess.DEVNULL)
    only_where(made.returncode == 0, f"kernels with {kind} devices")


def may_make_user_namespaces() -> bool:
    """Whether root may: the kernel refuses it within a chroot(2) (create_user_ns() in kernel/user_namespace.c)."""
    return subprocess.run(["unshare", "--user", "true"], check=False, stderr=subprocess.DEVNULL).returncode == 0


def program(name: str) -> str | None:
    """Where a program is that tools/setup copies beside this Python if the machine has none; None if neither has it."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))


# What tools/setup installs for tests, and a minimal machine has not. A run there names what it goes without, as
# tools/wheels/check does; in any other run a test whose tool is missing fails.
_TOOLS = ("busybox", "cc", "chdb", "cibuildwheel", "clang", "ipython", "libpcap", "nft", "strace", "tcpdump", "tshark")
_WITHOUT = os.environ.get("NETKIT_BPF_WITHOUT", "").split()

# What a test may need, whether it is there, and which kernels have it.
_FEATURES: dict[str, tuple[bool, str]] = {
    "tcx": (has_tcx(), "Linux 6.6 or later, which has tcx hooks"),
    "live rename": (is_at_least("6.2"), "Linux 6.2 or later, which renames devices that are up"),
    "echo": (is_at_least("6.2"), "Linux 6.2 or later, which tells of a device that it made (NLM_F_ECHO)"),
    "global locks": (is_at_least("6.2"), "Linux 6.2 or later, where a global variable may be a lock"),
    "scrub": (is_at_least("6.12.4"), "Linux 6.12.4 or later, which can leave mark and priority to packets"),
    "macs": (is_at_least("6.10"), "Linux 6.10 or later, where a netkit device takes a MAC address"),
    "user namespaces": (may_make_user_namespaces(), "machines whose root may make user namespaces: not in a chroot"),
    "nats": (program("nats-server") is not None, "distributions with a package nats-server"),
    "prometheus": (None not in (program("prometheus"), program("promtool")), "distributions with a package prometheus"),
    "x86_64": (platform.machine() == "x86_64", "x86_64, as the virtual machines are"),
    **{tool: (tool not in _WITHOUT, f"machines with {tool}") for tool in _TOOLS},
}
needs_tcx = pytest.mark.needs("tcx")
needs_live_rename = pytest.mark.needs("live rename")
needs_echo = pytest.mark.needs("echo")
needs_global_locks = pytest.mark.needs("global locks")
needs_scrub = pytest.mark.needs("scrub")
needs_macs = pytest.mark.needs("macs")
needs_nats = pytest.mark.needs("nats")
needs_prometheus = pytest.mark.needs("prometheus")
needs_user_namespaces = pytest.mark.needs("user namespaces")
needs_x86_64 = pytest.mark.needs("x86_64")
needs_clang = pytest.mark.needs("clang")
needs_ipython = pytest.mark.needs("ipython")


def has(feature: str) -> bool:
    """Whether the kernel or the machine has it, for a test that expects something else where it has not."""
    return _FEATURES[feature][0]


def need(feature: str) -> None:
    """Skip the test, or the module that is being imported, where the kernel or the machine has not what it needs."""
    only_where(*_FEATURES[feature])
