# SPDX-License-Identifier: MIT
"""The packets of a test that failed: as text in its report, and as a pcapng file beside it."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import warnings
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
        self.lost = 0  # packets that there was no room for

    def batch(self) -> EventBatch:
        """End the recording, and return the packets: at most 65,536, the first ones."""
        if self._batch is None:
            with warnings.catch_warnings():  # of what was lost: it is told with the packets
                warnings.simplefilter("ignore")
                batch = self._monitor.read_batch(_MOST, timeout=_QUIET)
                counts = self._monitor.stats.total
                self._monitor.close()
            self._batch, self.lost = batch, counts.lost + counts.pending
        return self._batch


def tell(item: pytest.Item, report: Any) -> None:
    """Put the packets of a failed item into its report."""
    found = []
    for capture in getattr(item, "_netkit_captures", ()):
        try:
            batch = capture.batch()
            text = _lines(batch) + (f"\n… and {capture.lost} that there was no room for" if capture.lost else "")
            report.sections.append((f"netkit packets of {', '.join(batch.pair_names)}", text))
            found.append(base64.b64encode(_file(batch)).decode())
        except Exception as error:  # the test has closed it, say: whatever it is, the report counts
            report.sections.append(("netkit packets", f"there is no capture: {error}"))
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
        path = directory / f"{_name(report.nodeid)}{suffix}.pcapng"
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
    # As pytest understands the path of the report.
    beside = Path(os.path.expandvars(os.path.expanduser(junit or ""))).parent  # noqa: PTH111
    return Path(config.invocation_params.dir, chosen or beside)


def _name(nodeid: str) -> str:
    """A name for a file that no other test has."""
    plain = re.sub(r"[^\w.-]+", "-", nodeid, flags=re.ASCII)[-150:]
    known = plain == nodeid.replace("::", "-").replace("/", "-")
    return plain if known else f"{plain}-{hashlib.sha256(nodeid.encode(errors='replace')).hexdigest()[:8]}"


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
