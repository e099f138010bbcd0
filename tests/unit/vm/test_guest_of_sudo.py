"""A guest that sudo(8) started: its process is root's, which others cannot signal. It ends, and leaves nothing."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from netkit_bpf import vm
from netkit_bpf.vm.keeper import Keeper
from pytest_netkit_bpf.host import Booted


@pytest.fixture(autouse=True)
def _another_users(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(process: subprocess.Popen[bytes], number: int) -> None:
        if process.poll() is None:
            raise PermissionError(1, os.strerror(1))

    monkeypatch.setattr(subprocess.Popen, "send_signal", refused)


@pytest.mark.parametrize("keep", [False, True])
def test_that_of_one_run(monkeypatch: pytest.MonkeyPatch, keep: bool) -> None:
    made: list[subprocess.Popen[bytes]] = []

    def start(_: list[str], *, popen: dict[str, object], **__: object) -> subprocess.Popen[bytes]:
        made.append(subprocess.Popen(["cat"], **popen))  # type: ignore[call-overload]
        return made[0]

    monkeypatch.setattr(vm, "start", start)
    guest = Booted([], "7.2", "/")
    guest.close(keep=keep)
    assert made[0].wait(10) == 0
    assert not guest.console.parent.exists()


def test_that_of_many_runs(tmp_path: Path) -> None:
    path = tmp_path / "base" / "guest"
    path.mkdir(parents=True)
    guest = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path / "socket"))
        listener.listen()
        Keeper(listener, guest, 0, path).close()
    assert guest.returncode == 0
    assert not path.parent.exists()
