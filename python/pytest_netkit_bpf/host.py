# SPDX-License-Identifier: MIT
"""The host's end of --netkit=vm: a guest that pytest runs in, its start, its answers and its death."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netkit_bpf import vm
from netkit_bpf.vm import kept as vm_kept
from netkit_bpf.vm.splats import splats

# A guest lives as long as the run, whose tests have time limits of their own.
LIFETIME = 1e6
END_LIMIT = 15.0
CONSOLE_LIMIT = 2.0
STDERR_LINES = 40

# What the host has done or does itself: to select, to report, to repeat and to measure.
_OWN: dict[str, Any] = {
    "netkit": "guest",
    "netkit_keep": False,
    "basetemp": None,
    "collectonly": False,
    "continue_on_collection_errors": True,
    "cov_source": [],
    "deselect": None,
    "dist": "no",
    "failedfirst": False,
    "keyword": "",
    "lf": False,
    "log_file": None,
    "loadgroup": False,
    "looponfail": False,
    "markexpr": "",
    "maxfail": 0,
    "newfirst": False,
    "numprocesses": None,
    "pastebin": None,
    "pyargs": False,
    "report_log": None,
    "setuponly": False,
    "setupshow": False,
    "stepwise": False,
    "trace": False,
    "tx": [],
    "usepdb": False,
    "xmlpath": None,
}


class GuestError(Exception):
    """The guest ended, or never began; the text says why, with the end of its output and of its console."""


class Booted:
    """A guest of this run alone: a process, and what it says."""

    def __init__(self, command: list[str], kernel: str, cwd: str) -> None:
        self._directory = tempfile.mkdtemp(prefix="pytest-netkit-")
        self.console = Path(self._directory, "console")
        self.stderr = Path(self._directory, "stderr").open("w+b")  # noqa: SIM115 # until close()
        self._process = vm.start(
            command,
            kernel=kernel,
            timeout=LIFETIME,
            console=self.console,
            popen={"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.stderr, "cwd": cwd},
        )
        assert self._process.stdin
        assert self._process.stdout
        self.requests = self._process.stdin
        self.answers = self._process.stdout

    def status(self) -> int:
        """How it ended."""
        return self._process.wait()

    def close(self, *, keep: bool) -> None:
        """Let the guest end, at once if it does not by itself or has nothing left to do well."""
        try:
            self._end(keep=keep)
        except PermissionError:  # it is sudo's: closed pipes end it, or else the end of this process, which it watches
            pass
        finally:
            for stream in (self.requests, self.answers, self.stderr):
                with contextlib.suppress(OSError):
                    stream.close()
            shutil.rmtree(self._directory, ignore_errors=True)

    def _end(self, *, keep: bool) -> None:
        try:
            if not keep:
                self._process.terminate()
            self._process.communicate(timeout=END_LIMIT)
        except (subprocess.TimeoutExpired, OSError, ValueError):
            self._process.terminate()
            try:
                self._process.wait(END_LIMIT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class Guest:
    """A pytest in a virtual machine, which boots while the host does other things. Use from one thread."""

    def __init__(self, config: pytest.Config, kernel: str, files: list[str]) -> None:
        self._kernel = kernel
        self._is_ready = False
        self._is_good = True
        script = Path(__file__).with_name("guest.py")
        flags = [f"-W{option}" for option in sys.warnoptions]
        command = [sys.executable, *flags, str(script)]
        cwd = str(config.invocation_params.dir)  # a test may have left it
        kept = None
        if config.getoption("netkit_keep"):
            worker = os.environ.get("PYTEST_XDIST_WORKER", "")
            root = str(config.rootpath)
            # Its Python is started before the run: what is installed must not have changed since.
            installed = Path(sysconfig.get_path("purelib")).stat().st_mtime_ns
            what = f"for pytest in {root}{worker and ', '}{worker}"
            kept = vm_kept.begin(command, kernel=kernel, what=what, setup=[worker, root, sys.prefix, str(installed)])
        self._machine: Booted | vm_kept.Kept = kept or Booted(command, kernel, cwd)
        self._seen = 0  # of the console
        self._first = self._shown = self._machine.stderr.tell()
        with contextlib.suppress(OSError):  # it is gone: the first item says so
            self._write({**_setup(config, files), "cwd": cwd, "kept": bool(kept)})

    def run(self, nodeid: str, following: str | None) -> Iterator[dict[str, Any]]:
        """Run an item and return its answers as they come; raises GuestError when there are no more."""
        if not self._is_ready:
            self._answer()
            self._is_ready = True
            self.complaints()  # of booting
            self._is_good = True
        try:
            self._write({"run": nodeid, "next": following})
        except OSError:
            raise self._dead() from None
        while True:
            answer = self._answer()
            yield answer
            if not answer.keys() & {"report", "warning"}:
                return

    @property
    def is_ready(self) -> bool:
        """Whether its pytest has begun."""
        return self._is_ready

    def complaints(self, mark: str = "") -> str:
        """What the kernel has complained about since this was called last.

        The console is behind: wait until the mark is on it, if there is one.
        """
        end = time.monotonic() + CONSOLE_LIMIT
        while True:
            try:
                new = self._machine.console.read_bytes()[self._seen :]
            except OSError:
                return ""
            if mark.encode() in new or time.monotonic() > end:
                break
            time.sleep(0.01)
        self._seen += len(new)
        reports = splats(new.decode(errors="replace").splitlines())
        self._is_good = self._is_good and not reports
        return "\n".join(line for report in reports for line in report)

    def new_output(self) -> str:
        """What was written to the guest's terminal since this was called last."""
        data = self._stderr_bytes(self._shown)
        self._shown += len(data)
        return data.decode(errors="replace")

    def close(self) -> None:
        """End its pytest; a guest whose kernel complained is not kept."""
        self._machine.close(keep=self._is_good or isinstance(self._machine, Booted))

    def kill(self) -> None:
        """End the guest at once."""
        self._machine.close(keep=False)

    def _write(self, request: dict[str, Any]) -> None:
        self._machine.requests.write(json.dumps(request).encode() + b"\n")
        self._machine.requests.flush()

    def _answer(self) -> dict[str, Any]:
        try:
            line = self._machine.answers.readline()
        except OSError:
            line = b""
        if not line.endswith(b"\n"):
            raise self._dead()
        answer: dict[str, Any] = json.loads(line)
        if answer.keys() & {"vm", "ended"}:  # of a guest that is kept
            raise self._dead(answer.get("ended", answer.get("status")))
        return answer

    def _dead(self, status: int | None = None) -> GuestError:
        if status is None:
            status = self._machine.status() if isinstance(self._machine, Booted) else vm.DIED
        reasons = {vm.DIED: "the guest died", vm.NO_BOOT: "the guest did not start", vm.TIME_OUT: "the guest timed out"}
        reason = reasons.get(status, f"the guest's pytest ended with status {status}")
        said = self._stderr_bytes(self._first).decode(errors="replace").splitlines()
        said = [line for line in said if not line.startswith("vm: console: ")]  # it goes with the guest
        error = GuestError("\n".join([f"--netkit=vm, Linux {self._kernel}: {reason}", *said[-STDERR_LINES:]]))
        self._machine.close(keep=False)
        return error

    def _stderr_bytes(self, start: int) -> bytes:
        stderr = self._machine.stderr
        return os.pread(stderr.fileno(), 1 << 20, start) if not stderr.closed else b""


def _setup(config: pytest.Config, files: list[str]) -> dict[str, Any]:
    """What the guest needs to be as this pytest is."""
    values = {
        **vars(config.option),
        **_OWN,
        "file_or_dir": files,
        "rootdir": str(config.rootpath),
        "inifilename": str(config.inipath) if config.inipath else None,
        "plugins": [each for each in config.option.plugins if each != "no:terminal"],
    }
    pickled = {}
    for name, value in values.items():
        with contextlib.suppress(Exception):  # no class of another plugin is refused but by the guest's own
            pickled[name] = base64.b64encode(pickle.dumps(value)).decode()
    path = [str(Path(each).absolute()) for each in sys.path]
    return {"environ": dict(os.environ), "path": path, "argv": sys.argv, "files": files, "options": pickled}
