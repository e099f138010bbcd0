# SPDX-License-Identifier: MIT
"""What a cell with `%%bpf` leaves behind: programs that are loaded, and the links that hold them on hooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType

from netkit_bpf import BPFObject, Closing, Filter, Hook, Link, Map, Program, Variable
from netkit_bpf.observer.filter import Filtered


class BPFCell(Closing):
    """The programs of a cell, on the hooks that its first line names.

    Attributes:
        object: the `BPFObject`, loaded.
        links: the links by the place that was asked for, "nk0:peer".
    """

    def __init__(
        self, name: str, source: str, cflags: Sequence[str], places: Mapping[str, Hook], chosen: Filter | None
    ) -> None:
        """Compile and load. On any failure nothing is left."""
        self._name = name
        self._places = dict(places)
        self._links: dict[str, Link] = {}
        self._closed = False
        self._filter = chosen
        self._filtered: dict[str, Filtered] = {}
        self._older: dict[str, Filtered] = {}  # of the cell before: a packet may still be on its way through them
        with ExitStack() as undo:
            self.object = BPFObject.compile(source, cflags=cflags)
            undo.callback(self.object.close)
            self._programs = {place: self.object.program_for(hook.side) for place, hook in self._places.items()}
            self.object.load()
            if chosen is not None:
                for place, program in self._programs.items():
                    self._filtered[place] = Filtered(chosen, program, self._places[place].side)
            undo.pop_all()

    def attach(self, old: BPFCell | None) -> None:
        """Attach the programs, in the place of an older cell's where they are on the same hooks.

        Each packet meets the old program or the new one. On any failure the old programs stay attached, and this cell
        is closed; otherwise the old cell is closed.
        """
        held = {} if old is None else old.held()
        with ExitStack() as undo:
            undo.callback(self.close)
            for place, hook in self._places.items():
                behind = self._filtered.get(place)
                program = self._programs[place] if behind is None else behind.program
                link = held.get(place)
                if link is not None and link.id in {each.link_id for each in hook.programs}:
                    before = link.program
                    link.update(program)
                    undo.callback(self._links.pop, place)  # the link stays the old cell's
                    undo.callback(link.update, before)
                    self._links[place] = link
                else:
                    self._links[place] = hook.attach(program)
            undo.pop_all()
        if old is not None:
            self._older = old.hand_over(self._links)

    def held(self) -> dict[str, Link]:
        """The links that still hold a program; a device that was deleted has taken its own along."""
        return {place: link for place, link in self._links.items() if not link.closed and link.is_attached}

    def hand_over(self, links: Mapping[str, Link]) -> dict[str, Filtered]:
        """Close, except for the links that another cell has now; return the filters, for that cell to keep."""
        self._links = {place: link for place, link in self._links.items() if links.get(place) is not link}
        filtered = self._filtered
        self.close()
        return filtered

    @property
    def hooks(self) -> Mapping[str, Hook]:
        """The hooks by the place that was asked for."""
        return MappingProxyType(self._places)

    @property
    def links(self) -> Mapping[str, Link]:
        """The links by the place that was asked for, "nk0:peer"."""
        return MappingProxyType(self._links)

    @property
    def programs(self) -> Mapping[str, Program]:
        """The programs by name."""
        return self.object.programs

    @property
    def maps(self) -> Mapping[str, Map]:
        """The maps by name."""
        return self.object.maps

    @property
    def variables(self) -> Mapping[str, Variable]:
        """The global variables by name."""
        return self.object.variables

    @property
    def closed(self) -> bool:
        """Whether `close` was called, or a later run of the cell took its place."""
        return self._closed

    def close(self) -> None:
        """Detach the programs and unload them. Idempotent."""
        self._closed = True
        for link in self._links.values():
            link.close()
        self.object.close()
        self._filtered, self._older = {}, {}

    def __enter__(self) -> BPFCell:
        if self._closed:
            raise ValueError(f"the programs of {self._name} are closed")
        return self

    def _noun(self) -> str:
        return ""  # its links and its object say it themselves

    def _repr_html_(self) -> str | None:
        return None if self._closed else self.object._repr_html_()

    def __repr__(self) -> str:
        if self._closed:
            return f"<BPFCell {self._name} closed>"
        on = ", ".join(f"{self._programs[place].name} on {place}" for place in self._places)
        matching = "" if self._filter is None else f" filter={self._filter.expression!r}"
        return f"<BPFCell {self._name}: {on or ', '.join(self.programs) + ' loaded, not attached'}{matching}>"
