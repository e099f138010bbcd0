# SPDX-License-Identifier: MIT
"""Run the command as `python -m netkit_bpf`."""

from __future__ import annotations

import sys

from netkit_bpf.command import main

sys.exit(main())
