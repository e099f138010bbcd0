# SPDX-License-Identifier: MIT
"""netkit-bpf monitor and capture at work: from where packets come to where they go."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from typing import BinaryIO, cast

from netkit_bpf.command.output import note, say, say_json
from netkit_bpf.command.packets.changes import ChangeNotes
from netkit_bpf.command.packets.printer import ExportPrinter, Printer, stats_line
from netkit_bpf.command.packets.progress import Progress
from netkit_bpf.command.packets.source import (
    expression_of,
    live,
    names_of,
    open_chosen,
    open_file,
    open_monitor,
    snaplen_of,
    stored,
)
from netkit_bpf.command.packets.target import Target, become, open_target
from netkit_bpf.command.selection import netns_of
from netkit_bpf.command.signals import Stop, interrupt_on_signals, until_closed
from netkit_bpf.devices.pair import NetkitPair, pairs
from netkit_bpf.enums import Side
from netkit_bpf.events.batch import EventBatch
from netkit_bpf.events.files.batch_file import BatchFile
from netkit_bpf.events.files.rotated_file import FilesFullError
from netkit_bpf.events.pcapng_file import BlockFile
from netkit_bpf.export.export import Export
from netkit_bpf.functions.monitor import Monitor

_GONE = 128  # a shell's status of a command that a signal ended, less the signal


def run(
    arguments: argparse.Namespace,
    make: Callable[[argparse.Namespace], NetkitPair] | None = None,
    announce: Callable[[argparse.Namespace, NetkitPair], None] | None = None,
) -> int:
    """Do what the options say; returns the exit status.

    Args:
        arguments: of the command line.
        make: makes the pair to watch, where the options name none.
        announce: tells of that pair, once its packets are watched.
    """
    if arguments.list:
        return _list(arguments)
    if arguments.read is not None:
        return _read(arguments)
    stop = Stop()
    if sys.stdout is not None:
        stop.output = sys.stdout.fileno()
    with ExitStack() as cleanup:
        if make is None:
            chosen, sides = open_chosen(arguments)
        else:
            chosen, sides = [cleanup.enter_context(make(arguments))], tuple(Side)
        with Progress("loading the programs"):
            monitor = cleanup.enter_context(open_monitor(arguments, chosen, sides))
        changes = None if arguments.quiet else cleanup.enter_context(ChangeNotes(monitor))
        stop.monitor = monitor
        stop.report = lambda: note(_summary(monitor))
        names = names_of(arguments, chosen)
        if arguments.user:
            become(arguments.user)
        target = open_target(arguments, cleanup)
        if announce is not None:
            announce(arguments, chosen[0])
        else:
            note(f"{'capturing on' if arguments.file else 'watching'} {names}. Ctrl-C ends.")
        if changes is not None:
            changes.start()
        if target is not None and not isinstance(target, BlockFile) and arguments.file == "-":
            stop.output = target.fileno()
        return _watch(arguments, monitor, target, stop, cleanup)


def _watch(
    arguments: argparse.Namespace, monitor: Monitor, target: Target | None, stop: Stop, cleanup: ExitStack
) -> int:
    child = stop.child = _start(arguments, cleanup) if arguments.command else None
    export = ExportPrinter(Export(monitor)) if arguments.format == "export" else None
    is_read = True
    try:
        if stop.requested:
            pass
        elif target is not None and not arguments.print and child is None:
            progress = Progress(lambda: f"{monitor.stats.total.delivered} packets, {monitor.stats.total.lost} lost")
            with until_closed(monitor), progress:
                monitor.capture(cast("BinaryIO", target), count=arguments.count, duration=arguments.duration)
        else:
            _pass_on(arguments, live(monitor, arguments, stop, child), target, export, monitor)
    except FilesFullError as full:
        note(str(full))
    except BrokenPipeError:
        is_read = False
        raise
    finally:
        if is_read:
            _finish(arguments, monitor, export)
    return 0 if child is None else _end(child, stop)


def _pass_on(
    arguments: argparse.Namespace,
    batches: Iterable[EventBatch],
    target: Target | None,
    export: ExportPrinter | None = None,
    monitor: Monitor | None = None,
) -> None:
    """Print packets, write them, or both; at the end of a file stands what `monitor` counted, if they are its own."""
    with ExitStack() as cleanup:
        file = None
        if target is not None:
            snaplen = 0 if monitor is None else snaplen_of(arguments)
            file = cleanup.enter_context(BatchFile(target, expression_of(arguments), snaplen))
            if monitor is not None:
                cleanup.callback(_write_counts, file, monitor)
        printer = export or (Printer(arguments) if target is None or arguments.print else None)
        for batch in batches:
            if file is not None:
                file.write(batch)
            if printer is not None:
                printer.write(batch)


def _write_counts(file: BatchFile, monitor: Monitor) -> None:
    pairs = monitor.stats.pairs
    if len(pairs) == 1:  # as in Monitor.capture
        file.write_counts(pairs[0], monitor.filtered)


def _read(arguments: argparse.Namespace) -> int:
    interrupt_on_signals()
    with ExitStack() as cleanup:
        file = cleanup.enter_context(open_file(arguments))
        target = open_target(arguments, cleanup)
        with suppress(FilesFullError):
            _pass_on(arguments, stored(file, arguments), target)
    return 0


def _start(arguments: argparse.Namespace, cleanup: ExitStack) -> subprocess.Popen[bytes]:
    """Start the command, in the namespace that is watched. It ends with this one."""
    netns = netns_of(arguments)
    # What it prints must not stand among the lines of packets, or within a file.
    output = sys.stderr.fileno() if sys.stderr is not None else subprocess.DEVNULL
    if netns is None:
        child = subprocess.Popen(arguments.command, stdout=output)
    else:
        child = netns.popen(arguments.command, stdout=output)
    cleanup.callback(child.wait)
    cleanup.callback(lambda: child.terminate() if child.poll() is None else None)
    return child


def _end(child: subprocess.Popen[bytes], stop: Stop) -> int:
    """End the command if it has not ended; tells its exit status, and returns it: 0 where a limit ended it."""
    is_limit = False
    if child.poll() is None:
        is_limit = not stop.requested
        child.terminate()
        stop.requested = True  # a signal from now on is a second one
    status = child.wait()
    if is_limit:
        note("the command was ended: all that was asked for was captured")
        return 0
    if status < 0:
        status = _GONE - status
    note(f"the command ended with status {status}")
    return status


def _finish(arguments: argparse.Namespace, monitor: Monitor, export: ExportPrinter | None) -> None:
    """Close the monitor, and report what became of the packets."""
    monitor.close()
    stats = monitor.stats
    if export is not None:
        export.finish()
    elif arguments.format == "json":
        if arguments.file != "-":
            say_json(stats_line(stats))
    elif arguments.format == "classic":
        note(str(stats))
    else:
        note(_summary(monitor))


def _summary(monitor: Monitor) -> str:
    total = monitor.stats.total
    return f"{total.delivered} packets captured, {sum(monitor.filtered)} not matching the filter, {total.lost} lost"


def _list(arguments: argparse.Namespace) -> int:
    there = pairs(netns_of(arguments))
    if arguments.format == "json":
        say_json(json.dumps([{"name": each.primary.name, "peer": _peer(each), "mode": each.mode} for each in there]))
        return 0
    for number, each in enumerate(there, 1):
        state = "Up" if each.primary.is_up else "Down"
        say(f"{number}.{each.primary.name} (peer {_peer(each) or 'out of reach'}, {each.mode}) [{state}]")
    return 0


def _peer(pair: NetkitPair) -> str | None:
    try:
        return pair.peer.name
    except LookupError:
        return None  # in a namespace that has no name and no process
