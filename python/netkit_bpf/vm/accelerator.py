# SPDX-License-Identifier: MIT
"""Whether KVM can be used: a device node that opens proves nothing, so a kernel is started on it."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

from netkit_bpf.vm.machine import Machine, Setup

VARIABLE = "NETKIT_BPF_VM_ACCEL"
PROBE_LIMIT = 20.0


def kvm_works(setup: Setup, verdicts: Path) -> bool:
    """Boot the setup, whose command should be a short one, on KVM; remember the verdict until the host boots again."""
    forced = os.environ.get(VARIABLE)
    if forced:
        return forced == "kvm"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    verdict = verdicts / f"kvm-{boot}"
    if not verdict.exists():
        trial = dataclasses.replace(setup, kvm=True, boot_limit=PROBE_LIMIT, timeout=PROBE_LIMIT, stdin=None)
        works = _boots(trial)
        if not works and not _boots(dataclasses.replace(trial, kvm=False, boot_limit=setup.boot_limit)):
            return False  # the setup itself is at fault, which says nothing of KVM
        if not works:
            print("vm: KVM does not start a kernel here: using software emulation", file=sys.stderr)
        new = verdict.with_suffix(f".{os.getpid()}")
        new.write_text("works\n" if works else "fails\n")
        new.rename(verdict)
    return verdict.read_text() == "works\n"


def _boots(setup: Setup) -> bool:
    return Machine(setup, lambda *_: None).run().started
