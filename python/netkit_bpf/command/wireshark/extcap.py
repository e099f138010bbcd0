# SPDX-License-Identifier: MIT
"""netkit-bpf extcap: pairs as interfaces of Wireshark, which calls it (extcap(4), doc/extcap.adoc in its source)."""

from __future__ import annotations

import argparse
import os
import select
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from netkit_bpf.command.output import printable, say
from netkit_bpf.command.packets.options import ALL
from netkit_bpf.command.selection import add_inhabitants, add_option, inhabited_pairs, netns_of, open_pair
from netkit_bpf.command.signals import Stop, until_closed
from netkit_bpf.command.usage import whole_number
from netkit_bpf.command.wireshark import folder
from netkit_bpf.devices.pair import pairs
from netkit_bpf.enums import Side
from netkit_bpf.functions.monitor import Monitor
from netkit_bpf.observer.filter import Filter

_PREFIX = "netkit-"  # before the primary's name: that name alone is the device, on which dumpcap captures
_ALL = "netkit"
_RING = 16 << 20
_SENDERS = {"both": tuple(Side), **{str(side): (side,) for side in Side}}
_ANSWERS = {  # of every interface
    "--extcap-dlts": ["dlt {number=1}{name=EN10MB}{display=Ethernet}"],
    "--extcap-config": [
        "arg {number=0}{call=--sender}{display=Packets of}{type=selector}{tooltip=The end that sends them}",
        "value {arg=0}{value=both}{display=both}{default=true}",
        *(f"value {{arg=0}}{{value={side}}}{{display={side}}}" for side in Side),
        f"arg {{number=1}}{{call=--snaplen}}{{display=Bytes of each packet}}{{type=unsigned}}{{range=1,{ALL}}}"
        f"{{default={ALL}}}",
        "arg {number=2}{call=--netns}{display=Network namespace}{type=string}"
        "{tooltip=Where the primary is: a name, a path or the id of a process}",
        "arg {number=3}{call=--container}{display=Container}{type=string}"
        "{tooltip=Its pair alone, for the interface netkit: by its id or the path of its cgroup}",
    ],
}


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand and its options, most of which are named by Wireshark."""
    parser = commands.add_parser(
        "extcap",
        help="show pairs in Wireshark's list of interfaces",
        description="Wireshark and tshark call this command to list interfaces and to capture, once it is installed in"
        " a folder of theirs, with --install. Capturing needs root.",
    )
    what = parser.add_mutually_exclusive_group()
    what_for = {
        "--install": "make it known to Wireshark, in the folder of this user, which Wireshark has from 4.2 on, or of"
        " the system (default: auto, the user's if there is one)",
        "--uninstall": "remove what --install wrote",
    }
    for name, told in what_for.items():
        what.add_argument(name, nargs="?", choices=("auto", *folder.WHOSE), const="auto", help=told)
    what.add_argument("--extcap-interfaces", dest="interfaces", action="store_true", help="list the interfaces")
    what.add_argument("--extcap-dlts", dest="dlts", action="store_true", help="what the packets of one begin with")
    what.add_argument("--extcap-config", dest="config", action="store_true", help="the options of one")
    what.add_argument("--capture", action="store_true", help="write the packets of one as pcapng")
    # Without --capture it asks whether the filter is valid.
    parser.add_argument("--extcap-capture-filter", dest="filter", metavar="EXPRESSION", help="see pcap-filter(7)")
    parser.add_argument("--extcap-interface", dest="interface", metavar="NAME", help="which one")
    parser.add_argument("--fifo", metavar="PATH", help="where to write")
    parser.add_argument("--sender", choices=_SENDERS, default="both", help="whose packets (default: both ends')")
    parser.add_argument(
        "--snaplen", type=whole_number, default=ALL, metavar="N", help=f"bytes of each (default: {ALL})"
    )
    add_inhabitants(parser.add_mutually_exclusive_group())
    add_option(parser, "the one that Wireshark runs in")
    parser.add_argument("--extcap-version", metavar="VERSION", help="Wireshark's own; makes no difference")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.install is not None:
        folder.install(arguments.install, _ANSWERS)
    elif arguments.uninstall is not None:
        folder.uninstall(arguments.uninstall)
    elif arguments.interfaces:
        _list()
    elif not (arguments.dlts or arguments.config or arguments.capture or arguments.filter is not None):
        raise argparse.ArgumentError(None, "say what to do: --install, or what Wireshark says")
    elif arguments.interface is None:
        raise argparse.ArgumentError(None, "say which interface: --extcap-interface NAME")
    elif arguments.dlts:
        say(*_ANSWERS["--extcap-dlts"])
    elif arguments.config:
        say(*_ANSWERS["--extcap-config"])
    elif arguments.capture:
        _capture(arguments)
    else:
        _judge(arguments.filter)
    return 0


def _list() -> None:
    say("extcap {version=1}{display=netkit}")
    say(f"interface {{value={_ALL}}}{{display=all netkit pairs, also those that come}}")
    for pair in pairs():
        name = printable(pair.primary.name)
        say(f"interface {{value={_PREFIX}{name}}}{{display=netkit pair {name}, {pair.mode}}}")


def _judge(expression: str) -> None:
    """Print what is wrong with a filter; nothing if it is valid."""
    try:
        Filter(expression)
    except ValueError as error:
        say(str(error))


def _capture(arguments: argparse.Namespace) -> None:
    """Write packets until Wireshark ends it, by SIGTERM or by closing the pipe."""
    if arguments.fifo is None:
        raise argparse.ArgumentError(None, "say where to write: --fifo PATH")
    stop = Stop()
    with ExitStack() as cleanup:
        fifo = cleanup.enter_context(open(arguments.fifo, "wb", buffering=0))  # noqa: PTH123 - as it says
        stop.monitor = monitor = cleanup.enter_context(_monitor(arguments))
        cleanup.enter_context(_closed_with(fifo.fileno(), monitor))
        if not stop.requested:
            with until_closed(monitor):
                monitor.capture(fifo)


def _monitor(arguments: argparse.Namespace) -> Monitor:
    options = {
        "filter": arguments.filter or None,
        "sides": _SENDERS[arguments.sender],
        "snaplen": arguments.snaplen,
        "ring_size": _RING,
    }
    arguments.netns, arguments.container = arguments.netns or None, arguments.container or None  # fields left empty
    if inhabited := inhabited_pairs(arguments):
        if arguments.interface != _ALL:
            problem = f"{arguments.interface} is a pair already: a container's is watched by the interface {_ALL}"
            raise argparse.ArgumentError(None, problem)
        return Monitor(inhabited[0], **options)
    if arguments.interface == _ALL:
        return Monitor.all(netns_of(arguments), **options)
    return Monitor(open_pair(arguments.interface.removeprefix(_PREFIX), arguments), **options)


@contextmanager
def _closed_with(fifo: int, monitor: Monitor) -> Iterator[None]:
    """Close the monitor when nobody reads the pipe any more, also while there are no packets."""
    over, end = os.pipe()
    poll = select.poll()
    poll.register(fifo, 0)  # POLLERR is reported unasked
    poll.register(over, 0)  # POLLHUP, when this ends

    def watch() -> None:
        poll.poll()
        monitor.close()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        os.close(end)
        thread.join()
        os.close(over)
