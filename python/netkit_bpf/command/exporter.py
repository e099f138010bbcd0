# SPDX-License-Identifier: MIT
"""netkit-bpf exporter: the flows of pairs for Prometheus to scrape."""

from __future__ import annotations

import argparse
from contextlib import ExitStack, suppress
from typing import Any

from netkit_bpf.command.output import note
from netkit_bpf.command.selection import add_pairs, open_pairs
from netkit_bpf.command.signals import CHECK_EVERY, expect_pair, interrupt_on_signals
from netkit_bpf.export.prometheus import FlowCollector
from netkit_bpf.functions.metrics import FlowMetrics


def _export(arguments: argparse.Namespace) -> int:
    try:
        from prometheus_client import CollectorRegistry, start_http_server  # whose import takes long
    except ImportError:
        raise LookupError("the exporter needs prometheus_client: pip install 'netkit-bpf[prometheus]'") from None
    interrupt_on_signals()
    with suppress(KeyboardInterrupt), ExitStack() as cleanup:
        metrics = cleanup.enter_context(FlowMetrics(*open_pairs(arguments)))
        registry = CollectorRegistry()
        registry.register(FlowCollector(metrics, networks=arguments.network, top=arguments.top))
        host, port = arguments.listen
        try:
            server, thread = start_http_server(port, host, registry)
        except OSError as error:
            raise OSError(error.errno, f"listen on {_text(host, port)}: {error.strerror}") from None
        cleanup.callback(server.server_close)
        cleanup.callback(thread.join)
        cleanup.callback(server.shutdown)
        names = ", ".join(observer.device for observer in metrics.observers)
        note(f"flows of {names}: http://{_text(*server.server_address[:2])}/metrics. Ctrl-C ends.")
        while thread.is_alive():
            thread.join(CHECK_EVERY)
            expect_pair(metrics)
    return 0


def _text(host: Any, port: Any) -> str:
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 0xFFFF:
        raise argparse.ArgumentTypeError(f"must be ADDRESS:PORT, as 127.0.0.1:9435 or [::1]:9435, not {text!r}")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise argparse.ArgumentTypeError(f"an IPv6 address stands in brackets, as [::1]:9435, not {text!r}")
    return host.strip("[]") or "0.0.0.0", int(port)


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}")
    return int(text)


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand and its options."""
    parser = commands.add_parser(
        "exporter",
        help="serve what the flows of pairs send to Prometheus",
        description="Count the flows on the hooks of pairs, and serve the counters in Prometheus's text format, by"
        " pair, side, protocol and network, and those of the addresses that have sent most. Needs root.",
    )
    add_pairs(parser)
    parser.add_argument(
        "--listen",
        type=_address,
        default="127.0.0.1:9435",
        metavar="ADDRESS:PORT",
        help="where to serve (default: %(default)s)",
    )
    parser.add_argument(
        "--network",
        action="append",
        default=[],
        metavar="PREFIX",
        help="a network that has a label of its own, as 10.0.0.0/8; several may be",
    )
    parser.add_argument(
        "--top", type=_number, default=10, metavar="N", help="addresses that are counted one by one (default: 10)"
    )
    parser.set_defaults(run=_export)
