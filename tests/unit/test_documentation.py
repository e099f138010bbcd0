"""The manual is whole: every public name is in its reference, and every link between pages leads somewhere."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import netkit_bpf
from documents import PAGES, ROOT


def test_every_public_name_has_its_place_in_the_reference() -> None:
    text = "".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    described = re.findall(r"^\.\. auto\w+:: (\w+)$", text, re.MULTILINE)
    assert len(described) == len(set(described))
    assert set(described) == {*netkit_bpf.__all__} - {"Anchor"}  # a type of arguments


def test_the_command_has_a_row_for_every_subcommand() -> None:
    from netkit_bpf.command import make_parser

    shown = (ROOT / "docs" / "reference" / "command.md").read_text()
    subcommands = re.findall(r"^    (\w+)(?: |$)", make_parser().format_help(), re.MULTILINE)
    assert [name for name in subcommands if not re.search(rf"^\|[^|]*\b{name}\b", shown, re.MULTILINE)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def docstrings() -> Iterator[tuple[str, str]]:
    """Of all public names and of their members."""
    for name in netkit_bpf.__all__:
        noun = getattr(netkit_bpf, name)
        members = vars(noun) if inspect.isclass(noun) else {}
        public = {f"{name}.{each}": getattr(noun, each) for each in members if not each.startswith("_")}
        for place, what in {name: noun, **public}.items():
            yield place, inspect.getdoc(what) or ""


def test_examples_of_docstrings_compile() -> None:
    count = 0
    for name, text in docstrings():
        for example in doctest.DocTestParser().get_examples(text):
            compile(example.source, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            count += 1
    assert count > 100
