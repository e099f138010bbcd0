# SPDX-License-Identifier: MIT
"""What is on a hook: the programs and their order (bpf(2), BPF_PROG_QUERY)."""

from __future__ import annotations

from typing import NamedTuple


class AttachedProgram(NamedTuple):
    """A program on a hook, whoever attached it.

    Attributes:
        id: the program's number.
        name: its name, at most 15 bytes; None without CAP_SYS_ADMIN.
        link_id: the number of the link that holds it; None if it was attached without a link.
    """

    id: int
    name: str | None
    link_id: int | None


class HookPrograms(NamedTuple):
    """The programs on a hook.

    Attributes:
        revision: counts the changes of the hook. None while the hook is empty: the kernel does not tell it then.
        programs: in the order in which they run.
    """

    revision: int | None
    programs: tuple[AttachedProgram, ...]
