# SPDX-License-Identifier: MIT
"""The packets of a test that failed: as text in its report, and as a pcapng file beside it."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from netkit_bpf import EventBatch, Monitor

_SHOWN = 50  # packets in a report
_MOST = 65536  # packets of a capture
_QUIET = 0.2  # seconds without a packet after which no more is expected
_FIELD = "netkit_captures"  # of a report: what a guest found, for the host to write


class Capture:
    """Packets that are recorded in the background of a test. Made by the fixture `netkit_capture`."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._batch: EventBatch | None = None

    def batch(self) -> EventBatch:
        """End the capture, and return its packets: at most 65,536, the first ones."""
        if self._batch is None:
            batch = self._monitor.read_batch(_MOST, timeout=_QUIET)
            self._monitor.close()
            self._batch = batch
        return self._batch

    def close(self) -> None:
        """End the capture."""
        self._monitor.close()


def keep(item: pytest.Item, capture: Capture) -> None:
    """Show a capture in the report of the item if that fails."""
    captures = getattr(item, "_netkit_captures", [])
    item._netkit_captures = [*captures, capture]  # type: ignore[attr-defined] # stashes came with pytest 7


def tell(item: pytest.Item, report: Any) -> None:
    """Put the packets of a failed item into its report."""
    found = []
    for capture in getattr(item, "_netkit_captures", ()):
        try:
            batch = capture.batch()
        except (OSError, ValueError) as error:  # it was deleted under it, or the test has closed it
            report.sections.append(("netkit packets", f"there is no capture: {error}"))
            continue
        report.sections.append((f"netkit packets of {', '.join(batch.pair_names)}", _lines(batch)))
        found.append(base64.b64encode(_file(batch)).decode())
    setattr(report, _FIELD, found)
    if item.config.getoption("netkit") != "guest":  # its files are thrown away
        save(item.config, report)


def save(config: pytest.Config, report: Any) -> None:
    """Write the captures of a report to files, and name them in it."""
    found: list[str] = getattr(report, _FIELD, [])
    setattr(report, _FIELD, [])
    directory = _directory(config)
    if not found or directory is None:
        return
    for number, text in enumerate(found, 1):
        suffix = f"-{number}" if len(found) > 1 else ""
        path = directory / (re.sub(r"[^\w.-]+", "-", report.nodeid)[-200:] + f"{suffix}.pcapng")
        try:
            directory.mkdir(parents=True, exist_ok=True)
            path.write_bytes(base64.b64decode(text))
            said = str(path)
        except OSError as error:
            said = f"not written: {error}"
        report.sections.append(("netkit capture", said))


def _directory(config: pytest.Config) -> Path | None:
    """Where captures go: --netkit-captures, or beside the report of --junitxml."""
    chosen = config.getoption("netkit_captures") or None
    junit = config.getoption("xmlpath", None)
    if chosen is None and junit is None:
        return None
    return Path(config.invocation_params.dir, chosen or Path(junit).parent)


def _lines(batch: EventBatch) -> str:
    from netkit_bpf import TcpdumpFormat

    lines = TcpdumpFormat().format(batch, batch.pair_names).splitlines()
    more = f"\n… and {len(lines) - _SHOWN} more before" if len(lines) > _SHOWN else ""
    return "\n".join(lines[-_SHOWN:]) + more


def _file(batch: EventBatch) -> bytes:
    from netkit_bpf.events.files.batch_file import BatchFile

    target = io.BytesIO()
    with BatchFile(target) as file:
        file.write(batch)
    return target.getvalue()
