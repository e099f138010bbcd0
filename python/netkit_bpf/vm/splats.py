# SPDX-License-Identifier: MIT
"""Find what a kernel complains about in its console."""

from __future__ import annotations

import re
from collections.abc import Iterable

# "[    1.234567]" and, in some kernels, the thread or processor that speaks
_STAMP = r"(?:<\d+>)?(?:\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?)?"
_COMPLAINTS = (
    r"BUG:",
    r"WARNING:",
    r"kernel BUG at ",
    r"Kernel panic",
    r"Oops:",
    r"UBSAN:",
    r"ODEBUG:",
    r"KASAN:",
    r"KCSAN:",
    r"KFENCE:",
    r"general protection fault",
    r"double fault",
    r"invalid opcode:",
    r"stack segment:",
    r"divide error:",
    r"unable to handle ",
    r"refcount_t: ",
    r"list_(?:add|del) corruption",
    r"INFO: (?:possible|trying to register|task \S+ blocked|rcu\S* .*stall)",
    r"watchdog: BUG:",
    r"rcu: INFO: .*stall",
    r"unregister_netdevice: waiting for ",
    r"Memory cgroup stats? corrupt",
    r"kmemleak: \d+ new",
    r"Internal error:",
)
_COMPLAINT = re.compile(_STAMP + r"(?:" + "|".join(_COMPLAINTS) + r")")
_CUT = re.compile(_STAMP + r"-+\[ cut here \]-+")
_END = re.compile(_STAMP + r"---\[ end ")
# A report without an end mark is shown this far.
REPORT_LINES = 40


def splats(lines: Iterable[str]) -> list[list[str]]:
    """The reports in a console, each as its lines.

    A complaint counts only at the start of a message, not if a message quotes one.
    """
    reports: list[list[str]] = []
    inside = False
    for raw in lines:
        line = raw.rstrip("\r\n")
        if inside:
            reports[-1].append(line)
            inside = not _END.match(line) and len(reports[-1]) < REPORT_LINES
        elif _COMPLAINT.match(line) or _CUT.match(line):
            reports.append([line])
            inside = True
    return reports
