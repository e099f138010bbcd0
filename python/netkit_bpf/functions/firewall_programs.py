# SPDX-License-Identifier: MIT
"""The programs of a firewall, with the tables of its rules: bpf/firewall.bpf.c."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

from netkit_bpf.bpf.map import Map
from netkit_bpf.bpf.object import BPFObject
from netkit_bpf.bpf.shipped import program_file
from netkit_bpf.enums import Side, Verdict
from netkit_bpf.firewall.ruleset import Ruleset
from netkit_bpf.internal.arguments import users_level

LEFT = 1  # enum nk_fw_shared, <netkit_bpf/firewall.h>: what is left of a packet that no rule matches, a side each
COUNTERS = 3  # enum nk_fw_counter, behind the rules
_TOGETHER = 64  # NK_FW_TOGETHER
USUAL_RING = 1 << 20
_LOG = 0x80  # enum nk_action
_LOG_MAPS = ("verdicts", "verdicts_counts")
_DEFAULT_ACTIONS = {Verdict.PASS: 2, Verdict.DROP: 1}  # enum nk_action, <netkit_bpf/firewall.h>


@contextlib.contextmanager
def waiting_for_programs() -> Iterator[Callable[[], None]]:
    """Give what waits until each run of a program has ended that had begun by then; it needs nothing that could lack.

    The kernel waits so after a change of a map of maps (maybe_wait_bpf_programs() in kernel/bpf/syscall.c).
    """
    with Map.create("array", key_size=4, value_size=4, max_entries=1) as inner:
        with Map.create("array_of_maps", key_size=4, value_size=4, max_entries=1, inner=inner) as outer:
            yield lambda: outer.__setitem__(0, inner)


def load_rules(
    rules: Ruleset,
    default: Verdict,
    generation: int = 0,
    maps: Mapping[str, Map] | None = None,
    *,
    sides: Sequence[Side] = tuple(Side),
    connections: int = 0,
    explains: bool = False,
    log_default: bool = False,
    ring_size: int = USUAL_RING,
) -> BPFObject:
    """Make the tables and load the programs, that for explanations too or not: nothing is attached yet.

    Maps of the same firewall are taken for those of their names. With its tables, these rules are loaded once more.
    Established connections pass if there is a map of them, or one is to be made for so many. There is a ring of events
    if anything is to log, and from then on.
    """
    tables, maps = rules.compile(), maps or {}
    for text in [] if "tables" in maps else tables.warnings():
        warnings.warn(text, stacklevel=users_level())
    obj = BPFObject.open(program_file("firewall"))
    with contextlib.ExitStack() as undo:
        undo.callback(obj.close)
        obj.variables["layout_words"].value = tables.layout
        obj.variables["default_action"].value = _DEFAULT_ACTIONS[default] | (_LOG if log_default else 0)
        obj.variables["logs"].value = is_logging = tables.has_logs or log_default
        for name in _LOG_MAPS:
            obj.maps[name].autocreate = is_logging or name in maps
        obj.maps["verdicts"].max_entries = ring_size
        obj.variables["generation"].value = generation
        obj.programs["firewall_explain"].autoload = explains
        for side in Side:
            obj.programs[f"firewall_{side}"].autoload = side in sides
        obj.maps["tables"].value_size = len(tables.bytes)
        obj.maps["counts"].max_entries = (len(rules) + COUNTERS + _TOGETHER - 1) // _TOGETHER
        obj.variables["established"].value = obj.maps["connections"].autocreate = "connections" in maps or bool(
            connections
        )
        obj.maps["connections"].max_entries = connections or 1
        obj.maps["buckets"].autocreate = tables.has_rates
        obj.maps["buckets"].max_entries = max(1, len(rules))
        for name, each in maps.items():
            obj.maps[name].reuse(each)
        obj.load()
        if "shared" not in maps:
            obj.maps["shared"].update({LEFT + side.number: Verdict.NEXT.number for side in Side})
        if "tables" not in maps:
            obj.maps["tables"][0] = tables.bytes
        undo.pop_all()
    return obj


def lasting_maps(loaded: BPFObject) -> dict[str, Map]:
    """Those that the next rules have too."""
    return {name: loaded.maps[name] for name in ("shared", "connections", *_LOG_MAPS) if loaded.maps[name].autocreate}


def logs(loaded: BPFObject) -> bool:
    """Whether there is a ring of events."""
    return loaded.maps["verdicts"].autocreate


def logged(loaded: BPFObject) -> int:
    """How many events came into the ring until now."""
    counted = loaded.maps["verdicts_counts"].sum_cpus()
    return sum(counted[::2]) - sum(counted[1::2])  # those seen and those lost, a side each


def explainer(loaded: BPFObject) -> BPFObject:
    """The program that explains, with the tables of what is loaded. Few ask for it, and loading takes time."""
    obj = BPFObject.open(program_file("firewall"))
    obj.variables["layout_words"].value = loaded.variables["layout_words"].value
    for name, program in obj.programs.items():
        program.autoload = name == "firewall_explain"
    for name in ("connections", "buckets", *_LOG_MAPS):
        obj.maps[name].autocreate = False
    obj.maps["tables"].value_size = loaded.maps["tables"].value_size
    obj.maps["tables"].reuse(loaded.maps["tables"])
    return obj


def keep_buckets(old: BPFObject, new: BPFObject, kept: list[int | None]) -> None:
    """Let rules that stay begin with the tokens that they have."""
    if not (old.maps["buckets"].autocreate and new.maps["buckets"].autocreate):
        return
    before = old.maps["buckets"].copy()
    new.maps["buckets"].update({at: before[number] for at, number in enumerate(kept) if number is not None})
