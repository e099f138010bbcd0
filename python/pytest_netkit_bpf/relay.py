# SPDX-License-Identifier: MIT
"""Tests that run in a guest and are reported as if they ran here."""

from __future__ import annotations

import importlib
import itertools
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.reports import TestReport
from _pytest.runner import CallInfo, pytest_runtest_teardown

from netkit_bpf import vm
from netkit_bpf.vm.kept import KeptError
from pytest_netkit_bpf import captures, place, requirements
from pytest_netkit_bpf.host import Guest, GuestError


class Relay:
    """A plugin that hands items over to a guest, one by one; a guest a worker, booted when it is needed."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._guest: Guest | None = None
        self._kernel = ""  # of the guest
        self._broken: dict[str, str] = {}  # kernels whose guests never began, and why

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run an item in the guest if it belongs there."""
        if not place.is_elsewhere(item):
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in itertools.chain(self._reports(item, nextitem), _torn_down(item, nextitem)):
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_timeout_set_timer(self, item: pytest.Item) -> bool | None:
        """Leave time limits to the guest's pytest-timeout: here they would include the boot."""
        return place.is_elsewhere(item) or None

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_timeout_cancel_timer(self, item: pytest.Item) -> bool | None:
        """There is no timer to cancel."""
        return place.is_elsewhere(item) or None

    def pytest_report_header(self) -> str:
        """Say where tests will run."""
        where = "in a virtual machine" if self._config.getoption("netkit") == "vm" else "where netkit is"
        kept = ", in a guest that is kept for the next run" if self._config.getoption("netkit_keep") else ""
        return f"netkit: tests that need it run {where}, Linux {', '.join(place.kernels(self._config))}{kept}"

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """End the guest."""
        self._end()

    def pytest_unconfigure(self) -> None:
        """End the guest also where there was no session's end."""
        self._end()

    def _end(self) -> None:
        guest, self._guest = self._guest, None
        if guest:
            guest.close()

    def _reports(self, item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[TestReport]:
        kernel = place.kernel_of(item)
        if kernel in self._broken:
            yield _failure(item, self._broken[kernel], "setup")
            return
        last = None  # what is sent only when all is known
        began, mark = False, ""
        try:
            guest = self._booted(item, kernel)
            for answer in guest.run(_nodeid(item), self._following(item, nextitem)):
                began = True
                if "report" in answer:
                    report = self._report(item, answer["report"])
                    if report.when == "teardown":
                        last = report
                    else:
                        yield report
                elif "missing" in answer:
                    text = f"--netkit=vm, Linux {kernel}: the guest did not collect this test\n{answer['missing']}"
                    yield _failure(item, text.strip(), "setup")
                elif "warning" in answer:
                    self._warn(item, answer)
                else:
                    mark = answer.get("done", "")
                    self._finish(item, answer)
        except GuestError as error:
            self._guest = None
            if not began and not guest.is_ready:
                self._broken[kernel] = str(error)
            yield _failure(item, str(error), "call" if began else "setup")
            return
        except place.NoPlaceError as error:
            self._broken[kernel] = str(error)
            yield _failure(item, str(error), "setup")
            return
        except BaseException as error:  # a time limit of the host, or Ctrl-C
            if self._guest:
                self._guest.kill()
                self._guest = None
            if not isinstance(error, pytest.fail.Exception):
                raise
            yield _failure(item, f"{error}: the guest was ended", "call")
            return
        if self._config.getoption("capture") == "no":
            sys.stderr.write(guest.new_output())
        if last:
            if complaints := guest.complaints(mark):
                last.outcome = "failed"
                last.longrepr = f"the kernel complained while the test ran in Linux {kernel}:\n{complaints}"
            yield last

    def _booted(self, item: pytest.Item, kernel: str) -> Guest:
        if self._guest and self._kernel != kernel:
            self._end()
        if not self._guest:
            if reason := requirements.why_no_vm():
                raise place.NoPlaceError(f"--netkit=vm, but {reason}")
            self._fetch(kernel)
            files = {_file(each): None for each in item.session.items if self._is_for(each, kernel)}
            try:
                self._guest = Guest(self._config, kernel, [*files])
            except KeptError as error:
                raise place.NoPlaceError(f"--netkit-keep, but {error}") from None
            self._kernel = kernel
        return self._guest

    def _fetch(self, kernel: str) -> None:
        """Download a kernel, and show that."""
        if "/" in kernel or kernel in {each.name for each in vm.cached()}:
            return
        capture = self._config.pluginmanager.getplugin("capturemanager")
        if capture:
            capture.suspend_global_capture(in_=True)
        try:
            words = [sys.executable, "-m", "netkit_bpf", "vm", "kernels", "--fetch", kernel]
            done = subprocess.run(words, stdout=subprocess.DEVNULL, check=False)
        finally:
            if capture:
                capture.resume_global_capture()
        if done.returncode:
            raise place.NoPlaceError(f"--netkit=vm, but Linux {kernel} cannot be had: {' '.join(words[2:])}")

    def _is_for(self, item: pytest.Item, kernel: str) -> bool:
        return place.is_elsewhere(item) and place.kernel_of(item) == kernel

    def _following(self, item: pytest.Item, nextitem: pytest.Item | None) -> str | None:
        """The item that this guest gets next, for which it keeps fixtures of wider scopes."""
        kernel = place.kernel_of(item)
        candidates = [nextitem] if nextitem else []
        if nextitem and not hasattr(self._config, "workerinput"):  # pytest-xdist tells one item in advance, not all
            items = item.session.items
            candidates = items[items.index(item) + 1 :]
        return next((_nodeid(each) for each in candidates if self._is_for(each, kernel)), None)

    def _report(self, item: pytest.Item, data: dict[str, Any]) -> Any:
        """Make a report of what JSON made of one."""
        if isinstance(data.get("longrepr"), list):
            data["longrepr"] = tuple(data["longrepr"])  # of a skip: file, line and reason
        for name in ("sections", "user_properties"):
            data[name] = [tuple(each) for each in data.get(name) or ()]
        data.update(nodeid=item.nodeid, location=item.location)
        report = self._config.hook.pytest_report_from_serializable(config=self._config, data=data)
        captures.save(self._config, report)
        return report

    def _warn(self, item: pytest.Item, answer: dict[str, Any]) -> None:
        module, name = answer["category"]
        try:
            category = getattr(importlib.import_module(module), name)
            message = warnings.WarningMessage(
                category(answer["warning"]), category, answer["filename"], answer["lineno"]
            )
        except Exception:  # a class that takes other arguments, or is not to be had here
            message = warnings.WarningMessage(
                Warning(f"{name}: {answer['warning']}"), Warning, answer["filename"], answer["lineno"]
            )
        location = tuple(answer["location"]) if answer["location"] else None
        self._config.hook.pytest_warning_recorded.call_historic(
            kwargs={"warning_message": message, "when": "runtest", "nodeid": item.nodeid, "location": location}
        )

    def _finish(self, item: pytest.Item, answer: dict[str, Any]) -> None:
        if "exit" in answer:
            pytest.exit(answer["exit"])
        if answer.get("stop"):
            item.session.shouldstop = answer["stop"]


def _nodeid(item: pytest.Item) -> str:
    """The item's id, without the group that pytest-xdist adds."""
    if item.parent and item.config.getoption("loadgroup", False):
        return f"{item.parent.nodeid}::{item.name}"
    return item.nodeid


def _file(item: pytest.Item) -> str:
    return str(getattr(item, "path", None) or Path(item.fspath))


def _failure(item: pytest.Item, text: str, when: Any) -> TestReport:
    return TestReport(item.nodeid, item.location, dict.fromkeys(item.keywords, 1), "failed", text, when)


def _torn_down(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[TestReport]:
    """Tear down what items before this one left for it, and report if that fails: the next one expects it."""
    call = CallInfo.from_call(lambda: pytest_runtest_teardown(item, nextitem), when="teardown")
    if call.excinfo:
        yield TestReport.from_item_and_call(item, call)
