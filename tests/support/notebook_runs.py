"""Runs the committed notebooks, each in a kernel of its own, and keeps what came out."""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
import pytest

from netkit_bpf import NetNS

ROOT = Path(__file__).parents[2]


def runs_of(stem: str) -> int:
    """How often all cells are run, one after the other in one kernel: emulated, a run takes a minute."""
    return int(os.environ.get("NETKIT_BPF_NOTEBOOK_RUNS") or (2 if stem == "01-first-packets" else 1))


# In a process of its own, as zmq keeps threads and descriptors to the end of the process that uses it. By ipc, as the
# loopback device of a fresh namespace is down.
EXECUTE = """
import sys
import matplotlib.font_manager  # makes its cache of fonts, which the first cell would announce on a slow machine
import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

path = sys.argv[1]
notebook = nbformat.read(path, 4)
config = Config({"KernelManager": {"transport": "ipc"}})
NotebookClient(notebook, config=config, timeout=120, startup_timeout=120, record_timing=False).execute()
nbformat.write(notebook, path)
"""

# Run behind the last cell, in the notebook's own names. It may hold its own namespace, but no other one.
PROBE = """
def _probe():
    import json, os, socket
    def target(path):
        try:
            return os.readlink(path)
        except FileNotFoundError:  # the listing's own
            return ""
    own = target("/proc/self/ns/net")
    held = [target("/proc/self/fd/" + fd) for fd in os.listdir("/proc/self/fd")]
    print(json.dumps({{
        "devices": [name for _, name in socket.if_nameindex()],
        "namespaces": [name for name in held if name.startswith("net:[") and name != own],
        "bpf": [name for name in held if "bpf" in name],
        "names": {names},
    }}))
_probe()
"""

# What is asked of each notebook's names, as an expression that JSON can say.
NAMES = {
    "01-first-packets": """{
        "pings": [(e.side, str(e.src), str(e.dst), e.icmp_type, e.payload_len) for e in pings],
        "plan": plan,
        "waited_ns": waited_ns,
        "between_us": between_us,
        "exchanges": [[(e.side, str(e.src), str(e.dst), e.payload_len, e.icmp_type) for e in x] for x in exchanges],
        "tcp": [(e.side, e.tcp_flags, e.payload_len, e.length, e.gso_segs) for e in tcp],
        "received": received,
        "largest": largest.length,
        "stats": {name: side._asdict() for name, side in monitor.stats._asdict().items()},
        "small": {name: side._asdict() for name, side in small.stats._asdict().items()},
        "kept": len(kept),
    }""",
    "02-namespaces-and-blackhole": """{
        "routes": routes,
        "arrived": arrived,
        "dropped": dropped,
        "watched": [len(udp), len(watched)],
        "through": through,
        "after": after,
        "counters": [count.packets for count in counters.values()] + [counters.default.packets],
    }""",
    "03-your-own-program": """{
        "before": before,
        "after": after,
        "counted": counted,
        "verdicts": verdicts,
        "refused": refused,
        "swap": [same_link, other_program, link.closed],
        "sent": len(sent),
        "arrived": sorted(number for number, _ in arrivals),
    }""",
    "04-what-traffic-looks-like": """{
        "summary": {f"{row['kind']} {row['side']}": row for row in summary.to_dicts()},
        "handshake": handshake,
        "waits": waits.to_list(),
        "lost": lost,
    }""",
    "05-a-firewall": """{
        "answers": {f"{name} {port}": answer for (name, port), answer in answers.items()},
        "counters": [count.packets for count in counters.values()],
        "explained": explained,
        "arrived": arrived,
        "open_again": open_again,
    }""",
    "06-load-balancing": """{
        "first": len(first),
        "spread": spread,
        "fresh": fresh,
        "moved": moved,
        "maglev": maglev,
        "modulo": modulo,
    }""",
    "07-netkit-against-veth": """{
        "latency": {kind: len(times) for kind, times in latency_us.items()},
        "speed": {kind: len(values) for kind, values in speed.items()},
        "medians": {kind: [statistics.median(latency_us[kind]), statistics.median(speed[kind])] for kind in ends},
        "ratios": ratios,
        "left": left,
    }""",
}


class ExecutionError(Exception):
    """A cell failed; the text is the traceback."""


class Executed:
    """A notebook after its runs: the cells of each, and what the probe behind it found."""

    def __init__(self, path: Path) -> None:
        source, runs = read(path), runs_of(path.stem)
        code = PROBE.format(names=NAMES.get(path.stem, "None"))
        probe: dict[str, Any] = {
            "cell_type": "code",
            "source": code,
            "metadata": {},
            "outputs": [],
            "execution_count": None,
        }
        cells = [
            {**cell, "id": f"{cell.get('id', 'probe')}-{number}"}
            for number in range(runs)
            for cell in (*source.cells, probe)
        ]
        done = _execute({**source, "cells": cells}).cells
        each = len(source.cells) + 1
        self.runs = [done[number * each : (number + 1) * each - 1] for number in range(runs)]
        self.probes: list[dict[str, Any]] = [
            json.loads(done[(number + 1) * each - 1].outputs[0].text) for number in range(runs)
        ]


def _execute(notebook: dict[str, Any]) -> Any:
    """Run all cells in a network namespace that holds nothing else, away from the user's own files."""
    with tempfile.TemporaryDirectory(prefix="nb") as directory, NetNS.create() as ns:  # short: ipc sockets are there
        path = Path(directory, "notebook.ipynb")
        path.write_text(json.dumps(notebook))
        environment = {
            **os.environ,
            "IPYTHONDIR": directory,
            "JUPYTER_RUNTIME_DIR": directory,
            # What warns is an output on stderr, and that is looked for.
            "PYTHONWARNINGS": "default,ignore:InlineBackend._figure_formats_changed:DeprecationWarning",
        }
        result = ns.run(
            [sys.executable, "-c", EXECUTE, path],
            timeout=290,
            capture_output=True,
            text=True,
            env=environment,
            cwd=directory,
        )
        if result.returncode:
            raise ExecutionError(result.stderr)
        return read(path)


def read(path: Path) -> Any:
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    return notebook


@functools.cache
def _execute_once(path: Path) -> Executed | str:
    try:
        return Executed(path)
    except ExecutionError as error:
        return str(error)


def executed(path: Path) -> Executed:
    """The notebook's runs, made when first asked for; a failure is remembered as well."""
    made = _execute_once(path)
    if isinstance(made, str):
        pytest.fail(made, pytrace=False)
    return made
