# SPDX-License-Identifier: MIT
"""netkit-bpf prog: programs of one's own on the hooks of a pair, as bpftool-prog(8) and bpftool-net(8) say it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from netkit_bpf.bpf.attached import AttachedProgram
from netkit_bpf.bpf.holders import LinkHolder, link_holders
from netkit_bpf.bpf.hook import Anchor, Hook, Link
from netkit_bpf.bpf.program import Program
from netkit_bpf.command.output import note, printable, say, say_json
from netkit_bpf.command.programs.file import add_load_options, loaded, one_program, pinning_in
from netkit_bpf.command.programs.leftover import PROGRAMS, remove_empty
from netkit_bpf.command.selection import add_pair, add_pairs, chosen_pair, open_pairs
from netkit_bpf.devices.pair import NetkitPair
from netkit_bpf.enums import Side
from netkit_bpf.functions.firewall_pins import FIREWALLS, default_path


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand, its own subcommands and their options."""
    parser = commands.add_parser(
        "prog",
        help="load programs of your own, attach, list and detach them",
        description="Programs of your own on the hooks of a pair, in the words of bpftool(8). FILE is an object"
        " (.bpf.o), or its source in C (.bpf.c), which is compiled by clang. What is loaded or attached is pinned on a"
        " BPF file system, and so outlives the command. Needs root.",
    )
    actions = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    load = actions.add_parser(
        "load",
        help="load the programs of a file and pin them",
        description="Load the programs of a file and pin each in a directory, which is made, by its name.",
    )
    load.add_argument("file", metavar="FILE", help="the object, or its source")
    load.add_argument("path", type=Path, metavar="PATH", help="the directory, on a BPF file system")
    add_load_options(load)
    load.set_defaults(run=_load)

    attach = actions.add_parser(
        "attach",
        help="attach a program to a hook of a pair, until it is detached",
        description="Attach a program to the hook that sees what one side of a pair sends, behind those already there.",
    )
    _add_hook(attach)
    attach.add_argument("file", metavar="FILE", help="the object, its source, or a program pinned by load")
    attach.add_argument("--program", metavar="NAME", help="which one of the file (default: the only one for the side)")
    add_load_options(attach)
    place = attach.add_mutually_exclusive_group()
    what = 'in front of this one of the hook, by its name or number as list shows it, or "all"'
    place.add_argument("--before", metavar="PROGRAM", help=what)
    place.add_argument("--after", metavar="PROGRAM", help="behind this one, likewise")
    what = "in the place of the one of this name that was attached so before, in one instant"
    place.add_argument("--replace", action="store_true", help=what)
    attach.set_defaults(run=_attach)

    show = actions.add_parser(
        "list",
        aliases=["show"],
        help="list the programs on the hooks of pairs, and whose they are",
        description="List the programs on the hooks of pairs in the order in which they run, and what keeps each:"
        " processes, or names on a BPF file system.",
    )
    add_pairs(show)
    show.add_argument("--json", action="store_true", help="one JSON list, an object for each program")
    show.set_defaults(run=_list)

    detach = actions.add_parser(
        "detach",
        help="detach a program from a hook of a pair",
        description="Detach a program that attach, or another tool, left on a hook; not one that a process holds.",
    )
    _add_hook(detach)
    detach.add_argument("program", metavar="PROGRAM", help="its name, or its number as list shows it")
    detach.set_defaults(run=_detach)


def _add_hook(parser: argparse.ArgumentParser) -> None:
    add_pair(parser, "the pair, by its primary or its peer")
    parser.add_argument("side", choices=[str(side) for side in Side], help="whose packets")


def _load(arguments: argparse.Namespace) -> int:
    with loaded(arguments) as obj, pinning_in(arguments.path) as pin:
        programs = [each for each in obj.programs.values() if each.autoload]
        for program in programs:
            pin(program, program.name)
        for program in programs:
            note(f"program {program.name} is loaded as {program.id}, pinned at {arguments.path / program.name}")
    return 0


def _attach(arguments: argparse.Namespace) -> int:
    with chosen_pair(arguments) as pair, one_program(arguments) as program:
        hook = pair.hook(arguments.side)
        path = _directory(pair, hook) / program.name
        if path.exists():
            with Link.open_pinned(path) as link:
                if link.is_attached and arguments.replace:
                    link.update(program)
                    _tell_attached(program, hook, path)
                    return 0
                if link.is_attached:
                    advice = f"--replace replaces it, netkit-bpf prog detach {pair.primary.name} {hook.side} removes it"
                    raise FileExistsError(f"a program {program.name} is attached to {hook.name} so already: {advice}")
                link.unpin()  # of a pair that is gone
        elif arguments.replace:
            raise FileNotFoundError(f"no program {program.name} was attached to {hook.name} by netkit-bpf prog attach")
        before, after = _anchor(hook, arguments.before), _anchor(hook, arguments.after)
        with hook.attach(program, before=before, after=after) as link, pinning_in(path.parent) as pin:
            pin(link, path.name)
        _tell_attached(program, hook, path)
    return 0


def _tell_attached(program: Program, hook: Hook, path: Path) -> None:
    note(f"program {program.name} is attached to {hook.name} as {program.id}, pinned at {path}")


def _list(arguments: argparse.Namespace) -> int:
    holders = link_holders()
    shown = []
    for pair in open_pairs(arguments):
        for hook in (pair.hook(side) for side in Side):
            programs = hook.programs
            if programs and not arguments.json:
                say(printable(hook.name))
            for position, program in enumerate(programs, 1):
                theirs = holders.get(program.link_id or 0, ())
                if arguments.json:
                    shown.append(_described(pair, hook, position, program, theirs))
                else:
                    say(printable(f"    {position}  {_line(program, theirs)}"))
    if arguments.json:
        say_json(json.dumps(shown))
    return 0


def _line(program: AttachedProgram, holders: tuple[LinkHolder, ...]) -> str:
    words = [f"{program.name or '(name needs CAP_SYS_ADMIN)'} id {program.id}"]
    if program.link_id is None:
        return f"{words[0]} without a link"
    return " ".join([*words, f"link {program.link_id}", ", ".join(map(str, holders)) or "of a process out of sight"])


def _described(
    pair: NetkitPair, hook: Hook, position: int, program: AttachedProgram, holders: tuple[LinkHolder, ...]
) -> dict[str, object]:
    return {
        "ifname": pair.primary.name,
        "side": hook.side,
        "position": position,
        "id": program.id,
        "name": program.name,
        "link_id": program.link_id,
        "rank": program.rank,
        "pinned": [str(each.pinned_at) for each in holders if each.pinned_at is not None],
        "pids": [{"pid": each.pid, "comm": each.comm} for each in holders if each.pid is not None],
    }


def _detach(arguments: argparse.Namespace) -> int:
    with chosen_pair(arguments) as pair:
        hook = pair.hook(arguments.side)
        entry = _find(hook, arguments.program)
        if entry.link_id is None:
            hook.detach(entry)
            return 0
        holders = link_holders().get(entry.link_id, ())
        pins = [each.pinned_at for each in holders if each.pinned_at is not None]
        called = f"program {entry.name or entry.id} on {hook.name}"
        if any(pin.is_relative_to(FIREWALLS) for pin in pins):
            raise PermissionError(f"{called} is a firewall's: netkit-bpf fw flush {pair.primary.name} removes that")
        if not pins:
            whose = ", ".join(map(str, holders)) or "a process out of sight"
            raise PermissionError(f"{called} is held by {whose}: it goes when that ends or detaches it")
        for pin in pins:
            with Link.open_pinned(pin) as link:
                link.detach()
                link.unpin()
            if pin.is_relative_to(PROGRAMS):
                remove_empty(pin.parent)
    return 0


def _anchor(hook: Hook, text: str | None) -> Anchor | None:
    return text if text is None or text == "all" else _find(hook, text)  # type: ignore[return-value]


def _find(hook: Hook, text: str) -> AttachedProgram:
    """The program on the hook that has this name or number; a name may be as long as in the source."""
    programs = hook.programs
    found = [each for each in programs if text == str(each.id) or text[:15] == each.name]
    if len(found) == 1:
        return found[0]
    there = ", ".join(f"{each.name or '?'} ({each.id})" for each in programs) or "none"
    problem = "several programs are" if found else "no program is"
    raise LookupError(f"{problem} called {text} on {hook.name}: there is {there}")


def _directory(pair: NetkitPair, hook: Hook) -> Path:
    """Where links are pinned."""
    return PROGRAMS / default_path(pair).name / hook.side
