"""Programs of the manual compile; what they compile to is kept for tests/netkit, where clang takes long."""

from __future__ import annotations

import re

import pytest

from documents import PAGES, TABLES, examples
from netkit_bpf import BPFObject
from programs import build

SOURCES = [TABLES] + [
    source
    for page in PAGES
    for example in examples(page)
    for source in (
        re.findall(r'SOURCE = """(.*?)"""', example.text, re.DOTALL) if example.kind == "python" else [example.text]
    )
    if example.kind in ("python", "c")
]


@pytest.mark.parametrize("source", SOURCES)
def test_a_program_of_the_manual_compiles_and_loads(source: str) -> None:
    with BPFObject.open(build(source)) as obj:
        assert obj.programs
