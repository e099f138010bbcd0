# SPDX-License-Identifier: MIT
"""Which kernels there are for virtual machines, and which modules they have."""

from __future__ import annotations

from pathlib import Path

import pytest

from elsewhere import need
from netkit_bpf import vm
from netkit_bpf.vm import missing, modules
from netkit_bpf.vm.kernels import kept, newest_image


def test_the_newest_image_of_a_series_is_taken() -> None:
    names = [
        "linux-image-6.1.0-47-cloud-amd64",
        "linux-image-6.1.0-9-cloud-amd64",
        "linux-image-6.1.0-50-cloud-amd64-unsigned",
        "linux-image-6.1.0-51-cloud-amd64-dbg",
        "linux-image-6.12.90+deb12.1-cloud-amd64",
        "linux-image-6.12.90+deb12-cloud-amd64",
        "linux-image-6.12.9+deb12-cloud-amd64",
        "linux-image-cloud-amd64",
    ]
    assert newest_image(names, "6.1") == "linux-image-6.1.0-47-cloud-amd64"
    assert newest_image(names, "6.12") == "linux-image-6.12.90+deb12.1-cloud-amd64"
    assert newest_image(names, "7.2") is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("seven", "not a kernel: 'seven'; give a series of two numbers, such as 7.2, or a path with a slash"),
        ("/no/such/image", "kernel /no/such/image: No such file or directory"),
        ("/bin/sh", "kernel .*: not a boot image for x86"),
    ],
)
def test_what_is_no_kernel_is_refused(name: str, said: str) -> None:
    with pytest.raises(vm.KernelError, match=said):
        vm.get(name)


@pytest.mark.parametrize("name", ["", "vmlinuz"])
def test_a_kernel_at_a_path_has_the_modules_beside_it(tmp_path: Path, name: str) -> None:
    head = bytearray(0x400)
    head[0x1FE:0x206] = b"\x55\xaa\0\0HdrS"
    head[0x20E:0x210] = (0x300 - 0x200).to_bytes(2, "little")
    head[0x300:0x30C] = b"7.2.0-mine #1"[:12]
    (tmp_path / "vmlinuz").write_bytes(head)
    without = vm.get(str(tmp_path / name))
    assert (without.release, without.modules) == ("7.2.0-mine", None)
    (tmp_path / "modules").mkdir()
    kernel = vm.get(str(tmp_path / name))
    assert (kernel.image, kernel.modules) == (tmp_path / "vmlinuz", tmp_path / "modules")


def test_a_cache_that_is_reached_by_a_link_is_the_same_in_the_guest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest sees this machine's root elsewhere at first, where an absolute link leads nowhere."""
    entry = tmp_path / "elsewhere" / "entry"
    entry.mkdir(parents=True)
    for name in ("release", "indexed"):
        (entry / name).write_text("7.2.0-mine\n")
    (tmp_path / "netkit-bpf" / "kernels").mkdir(parents=True)
    (tmp_path / "netkit-bpf" / "kernels" / "7.2").symlink_to(entry)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kernel = vm.get("7.2")
    assert (kernel.name, kernel.image, kernel.modules) == ("7.2", entry / "vmlinuz", entry / "modules")
    assert vm.cached() == [kernel]


def test_a_module_that_a_kernel_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "modules.builtin").write_text("kernel/net/ipv6/ipv6.ko\n")
    (tmp_path / "nf-nat.ko.xz").touch()
    modules.check(tmp_path, ["ipv6", "nf_nat", "nf-nat"])
    modules.check(None, ["8021q"])
    with pytest.raises(missing.MissingError, match="--module 8021q: this kernel has no such module"):
        modules.check(tmp_path, ["ipv6", "8021q"])


def test_a_kernel_without_modules_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("busybox")

    def make(scratch: Path) -> Path:
        (scratch / "entry/modules").mkdir(parents=True)
        (scratch / "entry/release").write_text("6.8.0-like\n")
        return scratch / "entry"

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kept("6.8-like", make).release == "6.8.0-like"
    assert [kernel.name for kernel in vm.cached()] == ["6.8-like"]
