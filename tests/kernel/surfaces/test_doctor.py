"""netkit-bpf doctor where something is missing or odd: each line says what it found, and none ends the command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from elsewhere import needs_clang, needs_user_namespaces

COMMAND = [sys.executable, "-m", "netkit_bpf", "doctor"]


def lines(argv: list[str], **environment: str) -> dict[str, str]:
    """What it says of each item."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    assert "Traceback" not in done.stderr
    assert "libbpf:" not in done.stderr
    assert done.returncode in (0, 1)
    return {line.split()[0]: line for line in done.stdout.splitlines()}


def in_mounts(script: str) -> list[str]:
    """The command, in mounts of its own that a script has changed."""
    return ["unshare", "--mount", "sh", "-c", f'{script}; exec "$@"', "sh", *COMMAND]


def test_root_may_do_everything() -> None:
    found = lines(COMMAND)
    assert found["privilege"].split() == ["privilege", "ok", "CAP_NET_ADMIN,", "CAP_SYS_ADMIN,", "CAP_BPF"]
    assert found["BPF"].split()[1] == "ok"


@needs_user_namespaces
def test_capabilities_of_a_user_namespace_do_not_count() -> None:
    found = lines(["unshare", "--user", "--map-root-user", "--net", *COMMAND])
    assert found["privilege"].split()[1] == "missing"
    assert "in a user namespace" in found["privilege"]
    assert "run as root outside of it" in found["privilege"]
    assert found["BPF"].split()[1] == "missing"


def test_without_sys_it_says_what_that_takes_away() -> None:
    found = lines(in_mounts("umount -R -l /sys"))
    assert found["BTF"].split()[1] == "no"
    assert "/sys" in found["BTF"]
    assert found["BPF"].split()[1] in ("ok", "missing")  # libbpf counts the CPUs in /sys


def test_without_proc_it_says_what_cannot_be_told() -> None:
    found = lines(in_mounts("mount -t tmpfs none /proc"))
    assert found["privilege"].split()[1] == "unknown"
    assert "/proc/self/status: No such file or directory" in found["privilege"]
    assert found["bpffs"].split()[1] == "unknown"


def test_without_the_kernels_configuration_it_asks_for_privilege(tmp_path: Path) -> None:
    """What the kernel was built with is in /proc or in /boot, if at all."""
    argv = in_mounts("mount -t tmpfs none /boot; mount --bind /etc/passwd /proc/config.gz 2>/dev/null")
    argv[-len(COMMAND) :] = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *COMMAND]
    assert lines(argv)["netkit"].split()[1] in ("unknown", "no")


def test_a_mount_point_and_a_task_may_have_any_name(tmp_path: Path) -> None:
    place = tmp_path / "bpf"
    place.mkdir()
    script = f'mount -t tmpfs none {place}; umount -a -t bpf; d="{place}/$(printf \'\\377 \\012x\')"; mkdir "$d";'
    script += ' mount -t bpf none "$d"; printf "\\377" > /proc/self/comm'
    found = lines(in_mounts(script))
    assert found["bpffs"].split()[1] == "ok"
    assert found["bpffs"].endswith("/\\xff \\nx")
    assert found["privilege"].split()[1] == "ok"


@needs_clang
def test_clang_is_found_by_each_of_its_names(tmp_path: Path) -> None:
    clang = shutil.which("clang")
    assert clang is not None
    (tmp_path / "clang-14").symlink_to(Path(clang).resolve())
    assert f"{tmp_path}/clang-14: " in lines(COMMAND, PATH=str(tmp_path))["clang"]
    assert lines(COMMAND, PATH="/nowhere")["clang"].split()[1] == "no"
    assert lines(COMMAND, CLANG="/bin/false")["clang"].split()[1] == "no"
