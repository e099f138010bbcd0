# SPDX-License-Identifier: MIT
"""The guest's end of --netkit=vm: an ordinary pytest that runs the items it is asked for and sends their reports.

A script, not a module: pytest warns of modules of its plugins that were imported before it. Requests come on standard
input and answers go to standard output, a JSON object a line; what tests print goes to standard error.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import io
import json
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from _pytest.config import Config


class Channel:
    """A plugin that takes the place of pytest's main loop."""

    def __init__(self, requests: IO[str], answers: IO[str]) -> None:
        self._requests = requests
        self._answers = answers
        self._uncollected: list[str] = []

    def send(self, **answer: Any) -> None:
        """Write an answer; what JSON lacks becomes a string."""
        self._answers.write(json.dumps(answer, default=str) + "\n")
        self._answers.flush()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run items until the host wants no more."""
        items = {item.nodeid: item for item in session.items}
        self.send(ready=True)
        for line in self._requests:
            request = json.loads(line)
            if "end" in request:  # of a guest that is kept, whose input goes on
                break
            item = items.get(request["run"])
            if item is None:
                self.send(missing="\n".join(self._uncollected))
                continue
            try:
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=items.get(request["next"]))
            except pytest.exit.Exception as error:
                self.send(exit=str(error))
            else:
                self.send(done=_log(f"pytest: ended {request['run']}"), stop=session.shouldstop)
        return True

    def pytest_collectreport(self, report: Any) -> None:
        """Remember why an item is missing."""
        if report.failed:
            self._uncollected.append(f"{report.nodeid}: {report.longreprtext}")

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Send a report."""
        self.send(report=self._config.hook.pytest_report_to_serializable(config=self._config, report=report))

    def pytest_warning_recorded(self, warning_message: Any, when: str, nodeid: str, location: Any) -> None:
        """Send a warning of a test; the host has seen those of configuration and collection itself."""
        if when == "runtest":
            kind = warning_message.category
            self.send(
                warning=str(warning_message.message),
                category=[kind.__module__, kind.__qualname__],
                filename=warning_message.filename,
                lineno=warning_message.lineno,
                nodeid=nodeid,
                location=location,
            )

    def pytest_internalerror(self, excrepr: Any) -> None:
        """Say what broke pytest, where the host looks when the guest has ended."""
        print(excrepr, file=sys.stderr)

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Keep the configuration for reports, and let the terminal, which other plugins ask for, show nothing."""
        self._config = config
        self._stdout = sys.stdout
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 # the terminal's, to the end

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Give tests their output back: the terminal has been made."""
        sys.stdout = self._stdout


def _log(text: str) -> str:
    """Write a line to the kernel's log, and return what the console has once all before has come there."""
    line = text.encode("ascii", "replace")[:200].decode()
    try:
        Path("/dev/kmsg").write_text(f"<4>{line}")
    except OSError:
        return ""
    return line


def options(pickled: dict[str, str]) -> Iterator[tuple[str, Any]]:
    """The host's options, but those whose classes the guest cannot import."""
    for name, value in pickled.items():
        with contextlib.suppress(Exception):
            yield name, pickle.loads(base64.b64decode(value))


def main() -> int:
    """Become as the host's pytest is, but for its output."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    if isinstance(
        sys.stdout, io.TextIOWrapper
    ):  # to a file, what tests print would be held back, and lost with a guest
        sys.stdout.reconfigure(line_buffering=True)
    line = requests.readline()  # a guest that is kept may wait for it long, or in vain
    if not line:
        return 0
    setup = json.loads(line)
    if setup["kept"]:  # the files that were looked at meanwhile may have changed
        with contextlib.suppress(OSError):
            Path("/proc/sys/vm/drop_caches").write_text("3")
        importlib.invalidate_caches()
    os.environ.clear()
    os.environ.update(setup["environ"])
    sys.path[:] = setup["path"]
    sys.argv[:] = setup["argv"]
    os.chdir(setup["cwd"])
    config = Config.fromdictargs(dict(options(setup["options"])), setup["files"])
    config.pluginmanager.register(Channel(requests, answers), "netkit-guest")
    return int(config.hook.pytest_cmdline_main(config=config) or 0)


if __name__ == "__main__":
    sys.exit(main())
