# SPDX-License-Identifier: MIT
"""What a virtual machine needs of this one is named at once, with the packages to install."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from elsewhere import needs_x86_64
from netkit_bpf.vm import missing


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has none of it."""
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(missing, "VIRTIOFSD", [Path("/nowhere")])
    monkeypatch.setattr(missing, "BUSYBOX", [Path("/nowhere")])


@needs_x86_64
@pytest.mark.usefixtures("bare")
def test_all_programs_that_are_missing_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(missing.MissingError) as caught:
        missing.check()
    assert str(caught.value) == (
        "qemu-system-x86_64 and a busybox that needs no libraries are missing:"
        " apt-get install qemu-system-x86 busybox-static"
    )
    monkeypatch.setattr(shutil, "which", lambda name, **_: f"/usr/bin/{name}")
    with pytest.raises(missing.MissingError, match="install virtiofsd busybox-static"):
        missing.check()
