"""What a packet costs on its way, measured on the running kernel; needs root, no netkit.

    python benchmarks/bench.py [--rounds N] [--json FILE] [--plot FILE] [ROW...]

Each round measures this package and its peers one after the other; a figure is the median of the rounds, with the least
and the greatest; a goal is the median of the ratios within each round. A peer that is not installed is said.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import balancers
import consumers
import firewalls
import flows
import machine
import rows
import sweep
from goals import GOALS

ROWS: dict[str, Callable[[Path], rows.Figures]] = {
    "program": rows.program,
    "filter": rows.filters,
    "firewall": firewalls.measure,
    "balancer": balancers.measure,
    "flows": flows.measure,
    "cpus": rows.cpus,
    "drain": rows.drain,
    "text": rows.text,
    "rate": rows.rate,
    "busy": rows.busy,
    "export": rows.export,
    "idle": rows.idle,
    "start": rows.start,
    "pairs": rows.pairs,
    "nodes": rows.nodes,
}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "rows", nargs="*", choices=[[], *ROWS], metavar="ROW", help=f"of {', '.join(ROWS)} (default: all)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="a picture of what is lost as packets come faster")
    arguments = parser.parse_args()

    about = machine.describe()
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    if not consumers.has_bcc():
        print("bcc is not installed (Debian: python3-bpfcc): its rows are left out")
    if not importlib.util.find_spec("pyroute2"):
        print("pyroute2 is not installed: its rows are left out")
    figures: dict[str, list[float]] = {}
    with TemporaryDirectory() as directory:
        machine.build_peers(Path(directory))
        for number in range(arguments.rounds):
            for name in arguments.rows or ROWS:
                for figure, value in ROWS[name](Path(directory)):
                    figures.setdefault(figure, []).append(value)
            print(f"round {number + 1} of {arguments.rounds}", flush=True)
        swept = sweep.measure(Path(directory)) if arguments.plot else {}
    about["load at the end"] = machine.describe()["load"]

    width = max(map(len, figures))
    print(f"\n{'':{width}}    median     least  greatest")
    for figure, values in figures.items():
        print(f"{figure:{width}} {statistics.median(values):9.2f} {min(values):9.2f} {max(values):9.2f}")
    ratios = {goal.text: goal.ratios(figures) for goal in GOALS if goal.is_measured(figures)}
    print(f"\n{'':{width}}     ratio      goal")
    for goal in GOALS:
        if goal.text in ratios:
            ratio = statistics.median(ratios[goal.text])
            lowest = goal.lowest(figures)
            floor = f"; {statistics.median(lowest):.3f} with {goal.floor.rpartition(',')[0]} alone" if lowest else ""
            met = "met" if goal.is_met(ratio) else "NOT MET"
            print(f"{goal.text:{width}} {ratio:9.3f} {goal.limit:>9}  {met}{floor}")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(
            json.dumps({"machine": about, "figures": figures, "ratios": ratios, "sweep": swept}, indent=1)
        )
    if arguments.plot:
        sweep.draw(swept, ", ".join(f"{name} {value}" for name, value in about.items()), arguments.plot)
        print(f"\n{arguments.plot} shows what is delivered and lost as packets come faster")


if __name__ == "__main__":
    main()
