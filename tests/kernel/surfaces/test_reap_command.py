"""netkit-bpf reap without privilege: it says what it could not look into."""

from __future__ import annotations

import subprocess
import sys

from netkit_bpf import NetNS

COMMAND = [sys.executable, "-m", "netkit_bpf", "reap", "--dry-run"]


def test_namespaces_that_may_not_be_entered_are_named() -> None:
    with NetNS.create("nk-test-closed"):
        unprivileged = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *COMMAND]
        done = subprocess.run(unprivileged, capture_output=True, text=True, check=True)
        assert done.stdout == ""
        assert done.stderr.startswith("netkit-bpf: skipped for lack of CAP_SYS_ADMIN: ")
        assert "nk-test-closed" in done.stderr
        assert done.stderr.endswith(": run as root, or with sudo\n")
        assert "not looked into" not in subprocess.run(COMMAND, capture_output=True, text=True, check=True).stderr
