# SPDX-License-Identifier: MIT
"""What users of virtual machines say and are told: series of kernels, exit statuses. It imports nothing."""

from __future__ import annotations

# Where a series was last seen, best first: small lists come before large ones. A suite moves on to newer series, so
# any other series, and one that has left its place, is looked for in every suite.
PLACES = {
    "6.1": ["bookworm"],
    "6.12": ["bookworm-backports", "trixie"],
    "7.2": ["trixie-backports", "sid"],
}
DEFAULT = "7.2"
WITH_NETKIT = ["6.12", "7.2"]  # of PLACES
SPLAT, TIME_OUT, DIED, NO_BOOT = 123, 124, 125, 126
GUEST_ADDRESS = "10.0.2.15"  # where ports are published; QEMU's user network calls its guest so
SHARE_IN_GUEST = "/mnt/share"
