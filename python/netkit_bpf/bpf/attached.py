# SPDX-License-Identifier: MIT
"""The programs on a hook and their order (bpf(2), BPF_PROG_QUERY)."""

from __future__ import annotations

from typing import NamedTuple

from netkit_bpf._core import rank_of_program
from netkit_bpf.enums import Rank


class AttachedProgram(NamedTuple):
    """A program on a hook, attached by any process.

    Attributes:
        id: the program's number.
        name: its name, at most 15 bytes; None without CAP_SYS_ADMIN.
        link_id: the number of the link that holds it; None if it was attached without a link.
    """

    id: int
    name: str | None
    link_id: int | None

    @property
    def rank(self) -> Rank | None:
        """Its place on a hook, if its name is that of a packet function of this package; None of any other."""
        number = None if self.name is None else rank_of_program(self.name)
        return None if number is None else Rank.from_number(number)


class HookPrograms(NamedTuple):
    """The programs on a hook.

    Attributes:
        revision: counts the changes of the hook. None while the hook is empty: the kernel does not report it then.
        programs: in the order in which they run.
    """

    revision: int | None
    programs: tuple[AttachedProgram, ...]

    def _repr_html_(self) -> str | None:
        from netkit_bpf.internal.html import show

        return show(f"HookPrograms revision={self.revision}", self._tables)

    def _tables(self) -> list[object]:
        from netkit_bpf.internal.html import first

        rows = [
            (number, each.name or "?", each.rank, str(each.id), str(each.link_id or "none"))
            for number, each in enumerate(self.programs, 1)
        ]
        return [first(rows, ("runs", "program", "rank", "id", "link"), "" if rows else "no program")]
