# SPDX-License-Identifier: MIT
"""Where a firewall is pinned."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def path(bpffs: Path) -> Path:
    return bpffs / "rules" / "of_ve0"
