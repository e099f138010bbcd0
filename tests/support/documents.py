"""The examples of the manual and of README: blocks of Python, files that they name, and commands with what they print.

A block of Python is executed. One whose caption (:caption:) is a file's name is written to that file. In a block of the
console each line that begins with "$ " is a command, and the lines below it are what it prints, if there are any: `…`
stands for anything, within a line or in the place of any number of lines.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from netkit_bpf.command import main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# The program of docs/coming-from.md, whose tables name its parts.
TABLES = """
#include <netkit.h>

volatile __u32 x;
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u64); }
	m SEC(".maps"), counts SEC(".maps");
char LICENSE[] SEC("license") = "GPL";

SEC("netkit/peer")
int watch(struct __sk_buff *skb)
{
	__u32 length = skb->len;

	bpf_ringbuf_output(&events, &length, sizeof(length), 0);
	bpf_printk("%u", length);
	return NETKIT_NEXT;
}
"""
_FENCE = re.compile(
    r"^(?P<fence>```+)(?:\{code-block\} )?(?P<kind>python|console|c|text)\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
_CAPTION = re.compile(r"\A:caption: (\S+)\n\n?")


class Example(NamedTuple):
    """A block of a page."""

    kind: str
    text: str
    file: str | None
    line: int


def examples(page: Path) -> list[Example]:
    """What there is to run on a page, in its order."""
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        block, line = match["text"], text.count("\n", 0, match.start()) + 2
        caption = _CAPTION.match(block)
        if match["kind"] in ("python", "console") or caption:
            code = block[caption.end() :] if caption else block
            found.append(Example(match["kind"], code, caption[1] if caption else None, line))
    return found


def right_sides(page: Path) -> list[str]:
    """Return the code in the last column of each table of a page, in its order."""
    rows = [line.rstrip("|").rpartition("|")[2] for line in page.read_text().splitlines() if line.startswith("|")]
    return [code for row in rows for code in re.findall(r"`([^`]+)`", row)]


def run(example: Example, page: Path, names: dict[str, Any]) -> None:
    """Run one; relative files are those of the working directory."""
    if example.file is not None:
        Path(example.file).write_text(example.text)
    elif example.kind == "python":
        # Empty lines in front give tracebacks the page's line numbers.
        source = "\n" * (example.line - 1) + example.text
        code = compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        waiting = eval(code, names)  # a coroutine if it awaits anything
        if inspect.iscoroutine(waiting):
            asyncio.run(waiting)
    else:
        for command, printed in _commands(example.text):
            said = execute(command)
            assert _is_like(said, printed), f"{page.name}, {command}: it printed {said!r}"


def _commands(text: str) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:].partition("  #")[0].rstrip(), []))
        else:
            found[-1][1].append(line)
    return found


def execute(command: str) -> str:
    """Run a command of ours in this process, because an emulated machine takes long to start Python."""
    words = shlex.split(command.removeprefix("sudo "))
    if words[0] != "netkit-bpf" or "$(" in command or {"|", ">", "<", "&"} & {*words}:
        python = shlex.quote(sys.executable)
        shell = re.sub(r"\bnetkit-bpf (?=[a-z])", f"{python} -m netkit_bpf ", command.replace("sudo ", ""))
        shell = re.sub(r"^pytest\b", f"{python} -m pytest -p no:cacheprovider", shell)
        shell = re.sub(r"^python\b", python, shell)
        done = subprocess.run(["sh", "-c", shell], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, f"{command}: {done.stdout}"
        return done.stdout
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with tempfile.TemporaryFile("w+") as out:  # it has a descriptor, as standard output has
        try:
            with (
                mock.patch.object(sys, "argv", words),
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(out),
            ):
                status = main()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for number, handler in handlers.items():
                signal.signal(number, handler)
        out.seek(0)
        said = out.read()
    assert status == 0, f"{command}: {said}"
    return said


def _is_like(said: str, printed: list[str]) -> bool:
    """Whether what was said begins with, or is like, what the page shows."""
    if not printed:
        return True
    lines = [".*" if each == "…" else re.escape(each).replace("…", "[^\n]*") + "\n" for each in printed]
    return re.fullmatch("".join(lines), said, re.DOTALL) is not None
