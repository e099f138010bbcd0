# SPDX-License-Identifier: MIT
"""Loading the programs of bpf/monitor.bpf.c."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Callable

from netkit_bpf.bpf.map import Map
from netkit_bpf.bpf.object import BPFObject
from netkit_bpf.bpf.shipped import program_file
from netkit_bpf.enums import Side
from netkit_bpf.functions.cpu_rings import possible_cpus
from netkit_bpf.internal.arguments import Rings

_LEAST_DATA = 16  # bpf/include/netkit_bpf/packet.h, nk_copy_data()
_RINGS = ("events", "cpu_rings")
_SHARED_MAPS = (*_RINGS, "counts", "left_behind", "scratch", "task", "rest")
_FURTHER_PAIRS = 64  # for which something is loaded at once

_AddCounts = Callable[[Map, int], None]  # takes the map with the counts of so many further pairs


class PairPrograms:
    """The programs of one pair after the other. What they share is loaded for many pairs at once.

    Args:
        ring_size: bytes.
        snaplen: bytes.
        rings: as of a `Monitor`.
        pairs: how many there are at first.
        keep_first: as of a `Monitor`: whether each program has a second copy.
    """

    def __init__(self, ring_size: int, snaplen: int, rings: Rings, pairs: int, keep_first: bool = False) -> None:
        self._ring_size, self._snaplen, self._rings, self._keep_first = ring_size, snaplen, rings, keep_first
        self._rooms = [pairs or _FURTHER_PAIRS]
        self._shared = [self._load_shared(self._rooms[0])]

    @property
    def first(self) -> BPFObject:
        """The object with the rings."""
        return self._shared[0]

    def load(self, index: int, add_counts: _AddCounts) -> BPFObject:
        """Load those of a pair, which are to be closed once they are attached. A number may come again."""
        while index >= sum(self._rooms):
            shared = self._load_shared(_FURTHER_PAIRS, self.first)
            with contextlib.ExitStack() as undo:
                undo.callback(shared.close)
                add_counts(shared.maps["counts"], _FURTHER_PAIRS)
                undo.pop_all()
            self._shared.append(shared)
            self._rooms.append(_FURTHER_PAIRS)
        place, which = index, 0
        while place >= self._rooms[which]:
            place -= self._rooms[which]
            which += 1
        shared = self._shared[which]
        return load_programs(
            index,
            self._ring_size,
            shared,
            self._snaplen,
            rings=self._rings,
            place=place,
            keep_first=self._keep_first,
        )

    def announce(self, add_counts: _AddCounts) -> None:
        """Tell of the counts of the last ones."""
        add_counts(self._shared[-1].maps["counts"], self._rooms[-1])

    def close(self) -> None:
        """Close what is shared: attached programs call each other through it."""
        for each in self._shared:
            each.close()

    def _load_shared(self, places: int, ring_of: BPFObject | None = None) -> BPFObject:
        shared = load_programs(
            0,
            self._ring_size,
            None,
            self._snaplen,
            rings=self._rings,
            ring_of=ring_of,
            places=places,
            is_of_pair=False,
            keep_first=self._keep_first,
        )
        for program in shared.programs.values():
            program.close()  # the object has a descriptor of each of them too
        return shared


def load_programs(
    index: int,
    ring_size: int,
    shared: BPFObject | None = None,
    snaplen: int = 0,
    *,
    rings: Rings = "shared",
    ring_of: BPFObject | None = None,
    place: int = 0,
    places: int = 1,
    is_of_pair: bool = True,
    keep_first: bool = False,
) -> BPFObject:
    """Load the programs for the pair number `index`.

    Those of a further pair share everything with `shared` but their constants and their verdicts: also the program that
    the verifier takes longest for. They can be closed once they are attached; `shared` must stay. Without it, there are
    counts for so many `places`, of which the pair takes `place`; the rings may be those of another object, and the
    programs of a pair may be left out.
    """
    obj = BPFObject.open(program_file("monitor"))
    obj.variables["pair_index"].value = index
    obj.variables["first_count"].value = len(Side) * place
    obj.maps["events"].max_entries = ring_size
    obj.maps["counts"].max_entries = len(Side) * places
    if snaplen:
        obj.variables["snaplen"].value = snaplen
        obj.maps["scratch"].value_size += max(snaplen, _LEAST_DATA)
        obj.maps["scratch"].max_entries = possible_cpus()
    if rings != "shared":
        obj.variables["percpu"].value = True
        obj.variables["ordered"].value = rings == "ordered"
        obj.maps["cpu_rings"].max_entries = possible_cpus()
    for side in Side:
        obj.programs[f"monitor_{side}"].autoload = is_of_pair
        obj.programs[f"monitor_{side}_again"].autoload = is_of_pair and keep_first
    if keep_first:
        obj.variables["keeps_first"].value = True
        obj.maps["left_behind"].max_entries = len(Side) * places
    if ring_of is not None:
        for name in _RINGS:
            obj.maps[name].reuse(ring_of.maps[name])
    if shared is not None:
        obj.programs["monitor_rest"].autoload = False
        for name in _SHARED_MAPS:
            obj.maps[name].reuse(shared.maps[name])
    obj.load()
    if shared is None:
        obj.maps["rest"][0] = obj.programs["monitor_rest"]
    return obj


def probe_load() -> None:
    """Load the programs and close them again; raises what loading raises."""
    load_programs(0, mmap.PAGESIZE).close()
