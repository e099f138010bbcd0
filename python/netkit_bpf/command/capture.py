# SPDX-License-Identifier: MIT
"""netkit-bpf capture: write packets to a file. The options are tcpdump(8)'s where they mean the same."""

from __future__ import annotations

import argparse
import io
import os
import sys
from contextlib import ExitStack

from netkit_bpf.command.output import note
from netkit_bpf.command.selection import add_option, open_pair
from netkit_bpf.command.signals import Stop
from netkit_bpf.command.usage import add_limits
from netkit_bpf.functions.monitor import Monitor

_ALL = 262144  # tcpdump's largest snaplen
_RING = 16 << 20


def _capture(arguments: argparse.Namespace) -> int:
    stop = Stop()
    with ExitStack() as cleanup:
        pairs = [cleanup.enter_context(open_pair(name, arguments)) for name in arguments.interface]
        file: str | io.FileIO = arguments.file
        if file == "-":
            file = cleanup.enter_context(_output(arguments.file))
            stop.output = file.fileno()
        monitor = cleanup.enter_context(
            Monitor(
                *pairs,
                filter=" ".join(arguments.expression) or None,
                snaplen=arguments.snaplen or _ALL,
                ring_size=_RING,
            )
        )
        stop.monitor = monitor
        note(f"capturing on {', '.join(arguments.interface)}. Ctrl-C ends.")
        limits = {"count": arguments.count, "duration": arguments.duration}
        written = 0 if stop.requested else monitor.capture(file, **limits)
        monitor.close()
        lost = monitor.stats.total.lost
        note(f"{written} packets captured, {sum(monitor.filtered)} not matching the filter, {lost} lost")
    return 0


def _output(name: str) -> io.FileIO:
    """Standard output, apart from Python's own, which would write a second time what could not be written."""
    if sys.stdout is None:
        raise ValueError(f"-w {name}: there is no standard output")
    if sys.stdout.isatty():
        raise ValueError("-w -: standard output is a terminal: pipe it, or name a file")
    output = io.FileIO(os.dup(sys.stdout.fileno()), "w")
    output.name = "standard output"  # in errors
    return output


def _snaplen(text: str) -> int:
    if not text.isdecimal() or int(text) > _ALL:
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 to {_ALL}, not {text!r}")
    return int(text)


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand and its options."""
    parser = commands.add_parser(
        "capture",
        help="write the packets of pairs to a pcapng file",
        description="Write the packets on the hooks of pairs to a pcapng file, which Wireshark and tcpdump open. The"
        " options are those of tcpdump(8). Needs root.",
    )
    parser.add_argument(
        "-i",
        "--interface",
        action="append",
        required=True,
        metavar="NAME",
        help="a pair, by its primary; several may be",
    )
    add_option(parser, short=())
    parser.add_argument("-n", action="count", help="addresses stay numbers, as they do here anyway")
    parser.add_argument("-w", dest="file", required=True, metavar="FILE", help="what to write; - is standard output")
    add_limits(parser)
    parser.add_argument(
        "-s",
        "--snapshot-length",
        dest="snaplen",
        type=_snaplen,
        default=0,
        metavar="N",
        help=f"keep the first N bytes of each packet (default: 0, which is {_ALL})",
    )
    parser.add_argument("expression", nargs="*", help="which packets: see pcap-filter(7)")
    parser.set_defaults(run=_capture)
