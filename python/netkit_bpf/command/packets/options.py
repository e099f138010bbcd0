# SPDX-License-Identifier: MIT
"""The options of tcpdump(8): each does here what it does there, or exits 2 naming what does it here."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from pathlib import Path
from typing import Any, NoReturn, TextIO

from netkit_bpf.command.selection import add_inhabitants, add_option
from netkit_bpf.command.usage import add_limits, whole_number
from netkit_bpf.events.tcpdump import Time

ANY = "any"  # of -i
ALL = 262144  # bytes of a packet: tcpdump's largest snaplen
TIMES: tuple[Time, ...] = ("clock", "none", "epoch", "delta", "date", "since")  # by how many -t there are

_PAYLOADS = "payloads are not decoded here: -w - | tshark -r -"
_REFUSED = {  # option: how many values it has, and what does it here
    ("-b",): (0, _PAYLOADS),
    ("--count",): (0, "-c N ends after N packets; -r FILE | wc -l counts those of a file"),
    ("-d",): (0, "tcpdump -d EXPRESSION prints a filter's code; bpftool prog dump xlated what is attached"),
    ("-E",): (1, _PAYLOADS),
    ("-H",): (0, "there is no 802.11 here; leave it out"),
    ("-I", "--monitor-mode"): (0, "there is no 802.11 here; leave it out"),
    ("-J", "--list-time-stamp-types"): (0, "there is one: the hook's own, in nanoseconds (--nano)"),
    ("-j", "--time-stamp-type"): (1, "there is one: the hook's own, in nanoseconds (--nano)"),
    ("-L", "--list-data-link-types"): (0, "there is one: EN10MB (Ethernet)"),
    ("-M",): (1, _PAYLOADS),
    ("-m",): (1, _PAYLOADS),
    ("-T",): (1, "payloads are not decoded here: -w - | tshark -r - -d ..."),
    ("-u",): (0, _PAYLOADS),
    ("-V",): (1, "-r FILE reads one file: run the command for each"),
    ("-z", "--postrotate-command"): (1, "run the command over the files that are done: -G and -C name each only once"),
}
_NEEDLESS = {  # what they ask for is always so
    ("-f",): "names of addresses are not looked up",
    ("-K", "--dont-verify-checksums"): "checksums are not verified",
    ("-l",): "lines are written at once",
    ("-N",): "names of addresses are not looked up",
    ("-n",): "addresses, ports and protocols are numbers; -nn too",
    ("-O", "--no-optimize"): "changes nothing",
    ("-p", "--no-promiscuous-mode"): "a hook sees what its end sends, and nothing else",
    ("-U", "--packet-buffered"): "packets are written at once",
    ("--immediate-mode",): "packets are delivered at once",
    ("--lengths",): "lines have lengths",
}


class _Refuse(argparse.Action):
    """Ends the command with what to use instead."""

    def __call__(
        self, parser: argparse.ArgumentParser, _space: object, _values: object, name: str | None = None
    ) -> NoReturn:
        parser.error(f"{name}: {self.metavar}")


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where packets come from, which ones, and what becomes of them."""
    where = parser.add_argument_group("where packets come from")
    where.add_argument(
        "-i",
        "--interface",
        action="append",
        metavar="NAME",
        help="a pair, by the name or the number (-D) of an end; may be repeated; any is all, also those that come",
    )
    add_inhabitants(where, action="append", default=[])
    where.add_argument("-r", dest="read", metavar="FILE", help="packets of a pcapng or pcap file; - is standard input")
    where.add_argument("-D", "--list-interfaces", dest="list", action="store_true", help="list the pairs and exit")
    add_option(where, short=())
    where.add_argument(
        "--redirected",
        action="store_true",
        help="also what bpf_redirect_peer() delivers, as with Cilium's host routing",
    )
    where.add_argument(
        "--keep-first",
        action="store_true",
        help="come back to the front when another program is put there; without an EXPRESSION",
    )
    which = parser.add_argument_group("which packets")
    add_limits(which, count=("-c",))
    which.add_argument("-F", dest="filter_file", metavar="FILE", help="read the expression from a file")
    which.add_argument(
        "-Q",
        "--direction",
        choices=("in", "out", "inout"),
        default="inout",
        help="what the end that -i names receives (in) or sends (out); default: inout",
    )
    which.add_argument(
        "-s",
        "--snapshot-length",
        dest="snaplen",
        type=_snaplen,
        metavar="N",
        help=f"keep the first N bytes of each packet (default: what is shown; 0 and with -w: {ALL})",
    )
    which.add_argument("-B", "--buffer-size", dest="buffer", type=whole_number, metavar="KIB", help="of the ring")
    _add_lines(parser.add_argument_group("lines"))
    _add_files(parser.add_argument_group("files"))
    _add_rest(parser)


def _add_lines(group: argparse._ArgumentGroup) -> None:
    form = group.add_mutually_exclusive_group()
    form.add_argument("--format", choices=("tcpdump", "classic", "json"), default="tcpdump", help="default: tcpdump")
    help_ = 'one JSON object per line, of type "event"; the last one is of type "stats", with the loss counts'
    form.add_argument("--json", dest="format", action="store_const", const="json", help=help_)
    help_ = 'the same for a store: each event has its origin and a number, and lines of type "account" have the counts'
    form.add_argument("--export", dest="format", action="store_const", const="export", help=help_)
    group.add_argument("-A", dest="characters", action="store_true", help="with each packet's characters")
    group.add_argument("-e", dest="link", action="store_true", help="with the Ethernet header")
    group.add_argument("-q", "--quiet", action="store_true", help="with less of the protocol")
    group.add_argument("-S", "--absolute-tcp-sequence-numbers", dest="absolute", action="store_true",
                       help="TCP's sequence numbers as they are")  # fmt: skip
    group.add_argument(
        "-t", dest="time", action="count", default=0, help="no time; -tt seconds since 1970, -ttt since the last line,"
        " -tttt with the date, -ttttt since the first"
    )  # fmt: skip
    group.add_argument("-v", dest="verbose", action="count", default=0, help="with more of the IP header")
    group.add_argument("-x", dest="hex", action="count", default=0, help="with each packet in hex; -xx Ethernet too")
    group.add_argument("-X", dest="both", action="count", default=0, help="in hex and characters; -XX Ethernet too")
    group.add_argument("-#", "--number", action="store_true", help="number the lines")
    group.add_argument("--nano", dest="precision", action="store_const", const="nano", help="times in nanoseconds")
    group.add_argument("--micro", dest="precision", action="store_const", const="micro", help=argparse.SUPPRESS)
    group.add_argument("--time-stamp-precision", dest="precision", choices=("micro", "nano"), help=argparse.SUPPRESS)
    group.add_argument("--color", choices=("auto", "always", "never"), default="auto",
                       help="auto, the default, is on a terminal, unless NO_COLOR is set")  # fmt: skip


def _add_files(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-w", dest="file", metavar="FILE", help="write a pcapng file; - is standard output")
    group.add_argument("--print", action="store_true", help="lines too")
    group.add_argument("-C", dest="size", type=whole_number, metavar="N", help="another file after N million bytes")
    group.add_argument("-G", dest="seconds", type=whole_number, metavar="S",
                       help="another file every S seconds, named by strftime(3)")  # fmt: skip
    group.add_argument("-W", dest="files", type=whole_number, metavar="N",
                       help="with -C so many files, in a circle; with -G alone end after so many")  # fmt: skip
    group.add_argument("-Z", "--relinquish-privileges", dest="user", metavar="USER",
                       help="become this user once the pairs are open, before files are written")  # fmt: skip


def _add_rest(parser: argparse.ArgumentParser) -> None:
    for names, (values, instead) in _REFUSED.items():
        # argparse prints no help of it; the words stand where the action finds them
        parser.add_argument(*names, action=_Refuse, nargs=values, metavar=instead, help=argparse.SUPPRESS)
    needless = parser.add_argument_group("needless, because it is always so")
    for names, why in _NEEDLESS.items():
        needless.add_argument(*names, dest="needless", action="count", help=why)
    parser.add_argument("-y", "--linktype", choices=("EN10MB",), help=argparse.SUPPRESS)


def names_a_pair(arguments: argparse.Namespace) -> bool:
    """Whether the options name a pair that is there."""
    return bool(arguments.interface or arguments.container or arguments.pid)


def check(arguments: argparse.Namespace, error: Any) -> None:
    """Refuse what contradicts itself; `error` ends the command."""
    if arguments.read is not None:
        _check_reading(arguments, error)
    if ANY in (arguments.interface or ()):
        if set(arguments.interface) != {ANY}:
            error("-i any is all pairs: name no other with it")
        if arguments.user:
            error("-Z: pairs that come later are watched with privileges: name those that are there with -i")
    if arguments.format == "export" and (arguments.read is not None or arguments.file is not None):
        error("--export is about lines of a monitor: leave -r and -w out")
    if arguments.filter_file is not None and arguments.expression:
        error("-F and an expression: the filter is one of them")
    for option in ("size", "seconds", "files", "print"):
        if getattr(arguments, option) and arguments.file is None:
            error(f"{_OPTION[option]} is about a file: name it with -w")
    if (arguments.size or arguments.seconds) and arguments.file == "-":
        error("-w -: standard output is one file: leave -C and -G out")
    if arguments.print and arguments.file == "-":
        error("--print and -w -: both would write to standard output")


def _check_reading(arguments: argparse.Namespace, error: Any) -> None:
    if names_a_pair(arguments):
        error("-r and a pair: packets come from pairs or from a file")
    if arguments.command or arguments.user:
        error("-r takes neither -Z nor a command: packets come from a file")
    for option, name in _OF_PAIRS.items():
        if getattr(arguments, option):
            error(f"{name} is about pairs that are watched: leave it out with -r")
    if _is_one_file(arguments.read, arguments.file):
        error(f"-w {arguments.file} would overwrite what -r reads")


def _is_one_file(read: str, written: str | None) -> bool:
    if written is None:
        return False
    try:
        source, target = _status(read, sys.stdin), _status(written, sys.stdout)
    except (OSError, ValueError, AttributeError):  # is made now, or there is no such stream
        return False
    return stat.S_ISREG(source.st_mode) and os.path.samestat(source, target)


def _status(name: str, standard: TextIO) -> os.stat_result:
    return os.fstat(standard.fileno()) if name == "-" else Path(name).stat()


_OF_PAIRS = {
    "netns": "--netns",
    "redirected": "--redirected",
    "keep_first": "--keep-first",
    "buffer": "-B",
    "duration": "--duration",
}
_OPTION = {"size": "-C", "seconds": "-G", "files": "-W", "print": "--print"}


def _snaplen(text: str) -> int:
    if not text.isdecimal() or int(text) > ALL:
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 to {ALL}, not {text!r}")
    return int(text) or ALL
