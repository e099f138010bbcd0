"""Every example of the manual and of README, page by page."""

from __future__ import annotations

import gc
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy  # noqa: F401 - starts threads when a page imports it first
import pytest

from documents import PAGES, ROOT, examples, run
from netkit_bpf.bpf import compiler
from programs import build

HOW_TO = ROOT / "docs" / "how-to" / "index.md"
ON_ITS_PAIR = [ROOT / "docs" / name for name in ("how-to", "explanation")]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A directory for files, a BPF file system, and a compiler that keeps what tests/kernel compiled already."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compiler, "compile_source", lambda source, cflags=(): build(source, *cflags))
    subprocess.run(["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"], check=True)
    yield
    subprocess.run(["umount", "/sys/fs/bpf"], check=True)


@pytest.mark.parametrize("page", [page for page in PAGES if examples(page)], ids=lambda page: page.stem)
@pytest.mark.usefixtures("place")
def test_the_examples_of_a_page_run(page: Path) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    is_on_pair = page != HOW_TO and any(each in page.parents for each in ON_ITS_PAIR)
    if is_on_pair or page == HOW_TO:
        for each in examples(HOW_TO):
            run(each, HOW_TO, names)
    try:
        for each in [] if page == HOW_TO else examples(page):
            run(each, page, names)
    finally:
        if is_on_pair or page == HOW_TO:
            names["ping"].terminate()
            names["ping"].wait()
            names["pair"].delete()
            names["ns"].delete()
        names.clear()
        gc.collect()
