# SPDX-License-Identifier: MIT
"""A guest's first file system."""

from __future__ import annotations

from netkit_bpf.vm.initrd import Archive


def test_an_archive_is_padded_to_four_bytes() -> None:
    archive = Archive()
    archive.directory("d")
    archive.file("d/f", b"12345", 0o755)
    data = archive.finish()
    assert len(data) % 4 == 0
    assert [at % 4 for at in range(len(data)) if data.startswith(b"070701", at)] == [0, 0, 0]
