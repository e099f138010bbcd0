# SPDX-License-Identifier: MIT
"""Files of programs that the command line names: objects, their sources and pins; and directories to pin in."""

from __future__ import annotations

import argparse
import contextlib
import errno
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from netkit_bpf.bpf.hook import Link
from netkit_bpf.bpf.map import Map
from netkit_bpf.bpf.object import BPFObject
from netkit_bpf.bpf.program import Program
from netkit_bpf.internal import proc

_T = TypeVar("_T")


def add_load_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how an object is loaded."""
    what = "the value of a global variable, a whole number; may be repeated"
    parser.add_argument(
        "--set", dest="variables", action="append", type=_variable, default=[], metavar="NAME=VALUE", help=what
    )
    what = "pin the object's maps in this directory, which is made, by their names"
    parser.add_argument("--pinmaps", type=Path, metavar="DIRECTORY", help=what)


@contextlib.contextmanager
def loaded(arguments: argparse.Namespace) -> Iterator[BPFObject]:
    """Load all programs of the file that is named; what is pinned is removed on any failure."""
    with _opened(arguments) as obj, _in_force(obj, arguments):
        yield obj


@contextlib.contextmanager
def one_program(arguments: argparse.Namespace) -> Iterator[Program]:
    """Load the program of the file that is meant, or open it if the file is its pin."""
    path = Path(arguments.file)
    if _is_pin(path):
        if arguments.program or arguments.variables or arguments.pinmaps:
            raise argparse.ArgumentError(None, f"{path} is loaded already: leave --program, --set and --pinmaps out")
        with contextlib.closing(Program.open_pinned(path)) as program:
            yield program
        return
    with _opened(arguments) as obj:
        chosen = _choose(obj, path, arguments)
        for program in obj.programs.values():
            program.autoload = program is chosen
        with _in_force(obj, arguments):
            yield chosen


@contextlib.contextmanager
def pinning_in(directory: Path) -> Iterator[Callable[[Program | Link | Map, str], None]]:
    """Make the directory if it is missing, and give what pins there; on any failure remove what was made."""
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    pinned: list[Path] = []

    def pin(what: Program | Link | Map, name: str) -> None:
        what.pin(directory / name)
        pinned.append(directory / name)

    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield pin
    except BaseException as error:
        for path in pinned:
            path.unlink(missing_ok=True)
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()
        if isinstance(error, OSError) and error.filename is not None and not pinned:
            advice = "is a BPF file system there? mount -t bpf bpf /sys/fs/bpf"
            raise OSError(error.errno, f"{error.strerror}: {advice}", error.filename) from None
        raise


@contextlib.contextmanager
def _opened(arguments: argparse.Namespace) -> Iterator[BPFObject]:
    path = Path(arguments.file)
    try:
        obj = BPFObject.compile(path.read_text(), cflags=[f"-I{path.parent}"]) if path.suffix == ".c" else None
        obj = obj or BPFObject.open(path)
    except OSError as error:
        if error.errno == errno.ENOEXEC:
            raise OSError(error.errno, f"{path}: {error.strerror}") from None
        raise
    with contextlib.closing(obj):
        for name, value in arguments.variables:
            variable = _by_name(obj.variables, "variable", name, path)
            try:
                variable.value = value
            except (OverflowError, TypeError) as error:
                raise ValueError(f"--set: {error}") from None
        yield obj


@contextlib.contextmanager
def _in_force(obj: BPFObject, arguments: argparse.Namespace) -> Iterator[None]:
    """Load it, and pin its maps where that is asked for."""
    obj.load()
    if arguments.pinmaps is None:
        yield
        return
    with pinning_in(arguments.pinmaps) as pin:
        for name, each in obj.maps.items():
            if each.autocreate and "." not in name:  # not .rodata and its like, which a pin cannot be called
                pin(each, name)
        yield


def _choose(obj: BPFObject, path: Path, arguments: argparse.Namespace) -> Program:
    if arguments.program is not None:
        return _by_name(obj.programs, "program", arguments.program, path)
    try:
        return obj.program_for(arguments.side)
    except LookupError as error:
        raise LookupError(f"{error}; say which with --program") from None


def _by_name(there: Mapping[str, _T], kind: str, name: str, path: Path) -> _T:
    if name not in there:
        raise LookupError(f"{path} has no {kind} {name}: there is {', '.join(there) or 'none'}")
    return there[name]


def _is_pin(path: Path) -> bool:
    """Whether the file lies on a BPF file system."""
    with contextlib.suppress(FileNotFoundError):
        device = path.stat().st_dev
        return any(each.kind == "bpf" and each.target.stat().st_dev == device for each in proc.mounts())
    return False


def _variable(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    try:
        return name, int(value, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, VALUE a whole number, not {text!r}") from None
