"""Every example of the manual and of README, page by page."""

from __future__ import annotations

import contextlib
import gc
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dpkt
import numpy  # noqa: F401 - starts threads when a page imports it first
import pytest

import netkit_bpf as nk
from documents import PAGES, ROOT, TABLES, examples, execute, right_sides, run
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


@pytest.mark.usefixtures("place")
def test_what_another_tool_does_is_done_as_the_tables_say() -> None:
    """Each piece of code in the right column of docs/coming-from.md runs, beside a ping that goes on."""
    file = Path("mine.bpf.o")
    file.write_bytes(build(TABLES))
    names: dict[str, Any] = {"key": 0, "file": file, "source": TABLES, "path": "/sys/fs/bpf/x", "packet": bytes(64)}
    names["Ether"] = dpkt.ethernet.Ethernet  # scapy's has the same argument
    for each in examples(HOW_TO):
        run(each, HOW_TO, names)
    with contextlib.ExitStack() as stack:
        for last in (names["ns"].delete, names["pair"].delete, names["ping"].wait, names["ping"].terminate):
            stack.callback(last)
        obj, other = (stack.enter_context(nk.BPFObject.open(file)) for _ in range(2))
        link = stack.enter_context(names["pair"].attach(obj.programs["watch"], "peer"))
        names |= {"obj": obj, "program": other.programs["watch"], "link": link, "device": names["pair"].primary}
        with nk.Monitor(names["pair"], snaplen=262144) as monitor:
            names["event"] = next(iter(monitor.events(timeout=5.0)))
        done = [code for code in right_sides(ROOT / "docs" / "coming-from.md") if _runs(code, names)]
        names.clear()
    assert len(done) > 40


def _runs(code: str, names: dict[str, Any]) -> bool:
    """Run a piece of code and end what it made; a name or an option is nothing to run."""
    if code.startswith("netkit-bpf "):
        if (" create " in code or " --pid " in code) and any(each.primary.name == "nk7" for each in nk.pairs()):
            execute("netkit-bpf pair delete nk7")
        command = code.replace("create nk0", "create nk7").replace("set nk0", "set nk7")
        command = command.replace(" capture ", " capture --duration 0.3 ").replace("4711", str(names["ping"].pid))
        execute(command.replace("file.pcapng", "file.pcap"))
    elif code.startswith("for "):
        with eval(code.partition(" in ")[2], names) as stream:
            next(iter(stream))
    elif code.startswith(("with ", "except ")) or " = " in code:
        exec(
            f"try: pass\n{code}: pass" if code.startswith("except") else code + " pass" * code.endswith(":"), {**names}
        )
    elif "(" in code or "[" in code or code.startswith("event."):
        made = eval(code.replace('create("nk0"', 'create("nk8"').replace('create("lab"', 'create("red"'), {**names})
        if code == "link.update(program)":
            names["link"].update(names["obj"].programs["watch"])
        getattr(made, "delete" if ".create(" in code else "close", lambda: None)()
    else:
        return False
    return True
