# SPDX-License-Identifier: MIT
"""What counts as a complaint in the console of a kernel."""

from __future__ import annotations

import pytest

from netkit_bpf.vm.splats import splats


@pytest.mark.parametrize(
    "line",
    [
        "[    2.293423] WARNING: CPU: 0 PID: 1 at net/core/dev.c:1 f+0x1/0x2",
        "[    2.293423] WARNING: net/core/dev.c:1 at f+0x1/0x2, CPU#0: sh/1",
        "[    2.293423][  T136] BUG: kernel NULL pointer dereference, address: 0000000000000000",
        "[   12.000000] WARNING: possible circular locking dependency detected",
        "[   12.000000] ------------[ cut here ]------------",
        "[  120.000000] INFO: task sh:12 blocked for more than 120 seconds.",
        "[  120.000000] unregister_netdevice: waiting for nk0 to become free. Usage count = 2",
        "Kernel panic - not syncing: Attempted to kill init!",
    ],
)
def test_a_complaint_of_the_kernel_is_a_splat(line: str) -> None:
    assert splats(["[    1.000000] quiet", line]) == [[line]]


@pytest.mark.parametrize(
    "line",
    [
        "[    0.100000] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on",
        "[    0.722587] mtrr: your CPUs had inconsistent fixed MTRR settings",
        "[    0.000000] Command line: oops=panic panic=-1",
        "[    3.000000] python3[12]: segfault at 0 ip 0 sp 0 error 4",
    ],
)
def test_a_line_that_only_quotes_a_complaint_is_no_splat(line: str) -> None:
    assert splats([line]) == []


def test_a_report_ends_at_its_end_mark() -> None:
    report = ["[ 1.0] ------------[ cut here ]------------", "[ 1.0] WARNING: x", "[ 1.0] ---[ end trace 0 ]---"]
    assert splats([*report, "[ 2.0] quiet", *report]) == [report, report]
