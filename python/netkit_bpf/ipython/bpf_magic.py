# SPDX-License-Identifier: MIT
"""The cell magic `%%bpf`: a program in C, compiled, loaded and attached by running its cell."""

from __future__ import annotations

import builtins
import keyword
import re
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments

from netkit_bpf import CompileError, Device, Direction, Filter, Hook, NetkitPair, Side, VerifierError
from netkit_bpf.ipython.bpf_cell import BPFCell
from netkit_bpf.ipython.first_line import arguments_of, unquoted, words

_PLACE = re.compile(r"(.+):(primary|peer|ingress|egress)")


@magics_class
class BPFMagic(Magics):
    """Programs in cells of their own."""

    @magic_arguments()
    @argument("name", help="the Python variable for the cell's programs, maps and variables")
    @argument(
        "--attach",
        metavar="DEVICE:SIDE",
        action="append",
        default=[],
        help="the hook to attach to: nk0:peer, nk0:primary, eth0:ingress or eth0:egress, by a device's name in this"
        " network namespace or by a variable that holds a NetkitPair or a Device; may be given several times",
    )
    @argument(
        "--filter",
        default=None,
        metavar="EXPRESSION",
        help="a pcap-filter(7) expression, in quotes: the programs on hooks see only packets that match it, and the"
        " others go on to the next program",
    )
    @argument("--cflags", default="", help="more arguments for clang, in quotes: '-DPORT=12345 -O1'")
    @cell_magic
    def bpf(self, line: str, cell: str) -> None:
        """Compile the cell with clang, load it, attach it, and leave it in a variable.

        Run again, the cell replaces its own programs through the same links: each packet meets the old program or the
        new one. Maps and variables are new. If anything fails, what ran before goes on.

        With several programs in the cell, SEC("netkit/peer") says which is for the peer's hook, SEC("netkit/primary"),
        SEC("tc/ingress") and SEC("tc/egress") likewise. `NAME.close()` detaches and unloads them.
        """
        arguments = arguments_of(self.bpf, line)
        name, names = arguments.name, self.shell.user_ns  # type: ignore[union-attr]
        if not name.isidentifier() or keyword.iskeyword(name):
            raise UsageError(f"%%bpf {name}: the name must be one of a Python variable")
        if hasattr(builtins, name):
            raise UsageError(f"%%bpf {name}: {name} is a name of Python itself; take another name")
        old = names.get(name)
        if old is not None and not isinstance(old, BPFCell):
            raise UsageError(
                f"%%bpf {name}: {name} is a {type(old).__name__} already; take another name, or del {name}"
            )
        if arguments.filter is not None and not arguments.attach:
            raise UsageError(f"%%bpf {name}: --filter is for hooks; name one with --attach")
        places = {unquoted(place): _hook(unquoted(place), names) for place in arguments.attach}
        cflags = words(arguments.cflags)
        try:
            # The first line of the cell is the magic's: lines are numbered as the notebook does.
            chosen = None if arguments.filter is None else Filter(unquoted(arguments.filter))
            made = BPFCell(name, "\n" + cell, cflags, places, chosen)
            made.attach(old)
        except (CompileError, VerifierError, OSError, ValueError, LookupError) as error:
            _speak_for_itself(error, running=old is not None and bool(old.held()))
            raise error.with_traceback(None) from None  # its frames hold what failed to load
        names[name] = made


def _hook(place: str, names: dict[str, Any]) -> Hook:
    """The hook that is meant by "nk0:peer"; UsageError if there is none."""
    found = _PLACE.fullmatch(place)
    if found is None:
        raise UsageError(f"--attach {place}: it must be DEVICE:SIDE, with the side primary, peer, ingress or egress")
    what, side = found[1], found[2]
    held = names.get(what)
    try:
        if side in list(Direction):
            device = held if isinstance(held, Device) else Device.open(what)
            return device.hook(side)
        pair = held if isinstance(held, NetkitPair) else NetkitPair.open(what)
        return pair.hook(Side(side))
    except (OSError, LookupError, ValueError) as error:
        held_by = "" if held is None else f" (the variable {what} holds a {type(held).__name__})"
        raise UsageError(f"--attach {place}: {getattr(error, 'strerror', None) or error}{held_by}") from None


def _speak_for_itself(error: Exception, *, running: bool) -> None:
    """Have IPython show the error's own words, at the line of the cell, and none of Python's frames."""
    words = str(getattr(error, "strerror", None) or error).replace("<stdin>", "cell")
    line = getattr(error, "line", None)
    column = getattr(error, "column", None)
    where = "" if line is None else f", line {line} of the cell" + ("" if column is None else f", column {column}")
    kind = {CompileError: "the compiler refused it", VerifierError: "the kernel's verifier refused it"}.get(type(error))
    heading = f"{type(error).__name__}{f': {kind}' if kind else ''}{where}"
    ending = ["What ran before is still attached."] if running else []
    lines = [heading, *words.splitlines(), *ending]
    error._render_traceback_ = lambda *_: lines  # type: ignore[attr-defined]
