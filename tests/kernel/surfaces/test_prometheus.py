# SPDX-License-Identifier: MIT
"""`netkit-bpf exporter` as Prometheus itself sees it: what it scrapes is what was sent, to the last packet."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import urlopen

from elsewhere import needs_prometheus, needs_tcx, program
from netkit_bpf import NetNS, Side
from traffic import End, connect_and_send, ping, send_datagrams
from veth import quiet_pair

pytestmark = [needs_tcx, needs_prometheus]

EXPORTER, PROMETHEUS = "http://127.0.0.1:9435/metrics", "http://127.0.0.1:9090"
CONFIG = """
global: {scrape_interval: 200ms, scrape_timeout: 200ms}
scrape_configs: [{job_name: netkit, static_configs: [{targets: ["127.0.0.1:9435"]}]}]
"""
# The command itself, but for which pairs there are: a veth pair is none.
COMMAND = """
import sys
from netkit_bpf import Device, NetkitPair, NetNS
from netkit_bpf.command import exporter, main

there = NetNS.open(int(sys.argv.pop()))
exporter.open_pairs = lambda _: [NetkitPair(Device.open("ve0"), Device.open("ve1", there), owned=False)]
sys.exit(main())
"""
HEADERS = 14 + 20 + 8  # of a datagram: Ethernet, IPv4, UDP
SIZES = [0, 1, 100, 1400]
PATIENCE = 30.0


@contextmanager
def running(where: NetNS, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs for as long, and ends without a complaint when it is told to."""
    with where.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()
            _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said


def get(url: str) -> bytes:
    with urlopen(url, timeout=PATIENCE) as answer:
        data: bytes = answer.read()
    return data


def until(done: Callable[[], Any]) -> Any:
    """What it says as soon as it says anything."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            if found := done():
                return found
        except URLError:
            pass  # it is starting
        time.sleep(0.05)
    raise AssertionError(f"not within {PATIENCE} seconds")


def test_what_prometheus_scrapes_is_what_was_sent(tmp_path: Path) -> None:
    config = tmp_path / "prometheus.yml"
    config.write_text(CONFIG)
    with ExitStack() as undo:
        pair = undo.enter_context(quiet_pair())
        here, there = pair.primary.netns, pair.peer.netns
        here.run(["ip", "link", "set", "lo", "up"], check=True)
        ends = {Side.PRIMARY: pair.primary, Side.PEER: pair.peer}
        before = {side: end.statistics for side, end in ends.items()}
        holder = undo.enter_context(there.popen(["sleep", "infinity"]))
        undo.callback(holder.kill)
        options = ["--listen", "127.0.0.1:9435", "--network", "10.42.0.2/32"]
        exporter = undo.enter_context(
            running(here, sys.executable, "-c", COMMAND, "exporter", *options, str(holder.pid))
        )
        assert exporter.stderr is not None
        assert exporter.stderr.readline().startswith("netkit-bpf: flows of ve0: http://127.0.0.1:9435/metrics.")

        pair.primary.add_address("10.42.0.1/24")
        pair.peer.add_address("10.42.0.2/24")
        left, right = End(here, "10.42.0.1"), End(there, "10.42.0.2")
        ping(left, right, SIZES)
        send_datagrams(left, right, SIZES)
        connect_and_send(right, left, 1 << 20)
        undo.enter_context(
            running(
                here, str(program("prometheus")), f"--config.file={config}", f"--storage.tsdb.path={tmp_path}",
                "--web.listen-address=127.0.0.1:9090", "--log.level=warn",
            )
        )  # fmt: skip

        def ask(what: str) -> Any:
            return json.loads(here.call(get, f"{PROMETHEUS}/api/v1/{what}"))["data"]

        def query(text: str) -> dict[tuple[str, ...], int]:
            found = ask(f"query?query={quote(text)}")["result"]
            return {tuple(each["metric"].values()): int(each["value"][1]) for each in found}

        def scraped(metric: str) -> dict[tuple[str, ...], int]:
            return query(f"sum by (side) (netkit_{metric}_total)")

        def sent(field: str) -> dict[tuple[str, ...], int]:
            return {(str(side),): getattr(ends[side].statistics, field) - getattr(before[side], field) for side in Side}

        until(lambda: query("count_over_time(up[1m])").get(("127.0.0.1:9435", "netkit"), 0) >= 3)
        send_datagrams(right, left, SIZES)  # between two scrapes
        until(lambda: scraped("flow_skbs") == sent("tx_packets") and scraped("flow_bytes") == sent("tx_bytes"))
        until(lambda: scraped("top_source_bytes") == sent("tx_bytes"))
        assert query('sum by (side) (netkit_flow_packets_total{protocol="udp"})') == {
            (str(side),): len(SIZES) for side in Side
        }
        octets = sum(SIZES) + len(SIZES) * HEADERS
        assert query('sum by (dst_network) (netkit_flow_bytes_total{protocol="udp"})') == {
            ("10.42.0.2/32",): octets,
            ("other",): octets,
        }
        assert query("min_over_time(up[1m])") == {("127.0.0.1:9435", "netkit"): 1}

        told = {name: (entry["type"], entry["help"]) for name, (entry,) in ask("metadata").items()}
        assert {name: kind for name, (kind, _) in told.items() if name.startswith("netkit_")} == {
            "netkit_flows": "gauge",
            **{f"netkit_{what}_{field}": "counter"
               for what in ("flow", "top_source") for field in ("packets", "skbs", "bytes")},
        }  # fmt: skip
        assert told["netkit_flow_packets"][1].startswith("Counted packets on the wire")
        text = here.call(get, EXPORTER)
        checked = subprocess.run([str(program("promtool")), "check", "metrics"], input=text, capture_output=True)
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
