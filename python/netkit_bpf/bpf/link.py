# SPDX-License-Identifier: MIT
"""Links: what holds a program on a hook (bpf(2), BPF_LINK_CREATE; kernel/bpf/mprog.c for their order)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, NamedTuple

from netkit_bpf._core import Link as CoreLink
from netkit_bpf._core import Namespace, hook_detach, hook_of_side, hook_query, program_open
from netkit_bpf.bpf.program import Program
from netkit_bpf.enums import Direction, Side
from netkit_bpf.internal.arguments import expect, expect_in
from netkit_bpf.internal.resource import Closing

if TYPE_CHECKING:  # which import this module
    from netkit_bpf.devices.device import Device

_HOOKS: dict[Side | Direction, int] = {
    Side.PRIMARY: 0,
    Side.PEER: 1,
    Direction.INGRESS: 2,
    Direction.EGRESS: 3,
}
_WORDS = {number: word for word, number in _HOOKS.items()}
_SECTIONS: dict[Side | Direction, str] = {
    Side.PRIMARY: "netkit/primary",
    Side.PEER: "netkit/peer",
    Direction.INGRESS: "tcx/ingress",
    Direction.EGRESS: "tcx/egress",
}
_LAST, _FIRST, _BEFORE, _AFTER = range(4)
_REVISION = range(1, 1 << 64)


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


class Link(Closing):
    """Holds a program on a hook.

    Made by `NetkitPair.attach`, `Device.attach` or `open_pinned`. The device may be moved and renamed; once it is
    deleted the link holds nothing. As a context manager the link is closed on exit; it also is when nobody refers to it
    any more, so keep it for as long as the program is to stay, or `pin` it. Any thread may use it.

    >>> with pair.attach(program, "peer") as link:  # doctest: +SKIP
    ...     link.update(other)
    """

    def __init__(self, core: CoreLink, side: Side | Direction, program: Program | None) -> None:
        """Not for callers: attach a program, or use `open_pinned`."""
        self._core = core
        self._side = side
        self._id, program_id, *_ = core.info()
        self._known = (program_id, program)

    @classmethod
    def open_pinned(cls, path: str | os.PathLike[str]) -> Link:
        """Open the link that is pinned at a path.

        Raises:
            FileNotFoundError: nothing is pinned there.
            ValueError: what is pinned there is no link, or one to something else than a netkit or tcx hook.
            PermissionError: CAP_BPF is missing.
        """
        core = CoreLink.open_pinned(os.fspath(path))
        return cls(core, _WORDS[core.info()[2]], None)

    @property
    def id(self) -> int:
        """The number by which the kernel knows the link."""
        self._open()
        return self._id

    @property
    def side(self) -> Side | Direction:
        """The hook: "primary" or "peer" of a netkit pair, "ingress" or "egress" of a device."""
        return self._side

    @property
    def program(self) -> Program:
        """The program that the link holds now.

        PermissionError: another process put it there, and CAP_SYS_ADMIN is missing.
        """
        program_id = self._open().info()[1]
        known_id, known = self._known
        if known is None or known_id != program_id or known._closed:
            known = Program._open_id(program_id, _SECTIONS[self._side])
            self._known = (program_id, known)
        return known

    @property
    def is_attached(self) -> bool:
        """Whether it holds a program on a hook: not once the device is gone, nor after `detach`."""
        return self._open().info()[3] != 0

    @property
    def pinned_at(self) -> str | None:
        """The path at which this object pinned the link, or found it."""
        return self._open().pinned_at() or None

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._core.closed

    def update(self, program: Program, *, expected: Program | None = None) -> None:
        """Put another program in the place of the one that the link holds, atomically.

        Each packet is judged by one of the two, none by neither.

        Args:
            program: not on this hook yet.
            expected: update only if the link holds this program now.

        Raises:
            FileExistsError: the program is on this hook already.
            OSError: ENOLINK, the device is gone or the link was detached; ESTALE, the link holds another program
                than the expected one.
        """
        new = expect(program, Program, "program")._open()
        old = None if expected is None else expect(expected, Program, "expected")._open()
        self._open().update(new, old)
        self._known = (program.id, program)

    def detach(self) -> None:
        """Take the program off the hook at once, whoever else holds the link. Idempotent; a device may be gone."""
        self._open().detach()

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Give the link a name on a BPF file system, which keeps the program attached without this process.

        Raises:
            FileExistsError: the path is taken.
            ValueError: the link is pinned already.
            OSError: the path is not on a BPF file system (`mount -t bpf bpf /sys/fs/bpf`).
        """
        self._open().pin(os.fspath(path))

    def unpin(self) -> None:
        """Remove the name that `pin` gave, or by which `open_pinned` found the link. The program stays until `close`.

        Raises:
            ValueError: the link is not pinned.
            FileNotFoundError: somebody else removed the name.
        """
        self._open().unpin()

    def close(self) -> None:
        """Let go of the link. Idempotent.

        That detaches the program unless the link is pinned, or another process holds it: a child that was forked
        meanwhile does.
        """
        self._core.close()

    def _open(self) -> CoreLink:
        if self._core.closed:
            raise ValueError(f"link {self._id} is closed")
        return self._core

    def __enter__(self) -> Link:
        self._open()
        return self

    def __repr__(self) -> str:
        state = "closed" if self.closed else "attached" if self.is_attached else "detached"
        return f"<Link {self._id} ({self._side}) {state}>"


Anchor = Link | Program | AttachedProgram | Literal["all"]


class Place(NamedTuple):
    """A hook of a device; what pairs and devices hand on."""

    device: Device
    word: Side | Direction

    def attach(
        self, program: Program, *, before: Anchor | None, after: Anchor | None, expected_revision: int | None
    ) -> Link:
        """Attach a program; the arguments are those of `NetkitPair.attach`."""
        core = expect(program, Program, "program")._open()
        where, anchor = _placement(before, after)
        revision = 0 if expected_revision is None else expect_in(expected_revision, _REVISION, "expected_revision")
        netns, name, ifindex, hook = self._address()
        return Link(CoreLink(core, netns, name, ifindex, hook, where, anchor, revision), self.word, program)

    def programs(self) -> HookPrograms:
        """The programs on the hook."""
        revision, found = hook_query(*self._address())
        return HookPrograms(revision, tuple(AttachedProgram(id_, name, link or None) for id_, link, name in found))

    def detach(self, program: Program | AttachedProgram) -> None:
        """Take off a program that no link holds."""
        if isinstance(program, AttachedProgram):
            core = program_open(program.id)
        else:
            core = expect(program, Program, "program")._open()
        hook_detach(*self._address(), core)

    def _address(self) -> tuple[Namespace, str, int, int]:
        info = self.device._read()
        hook = _HOOKS[self.word]
        if isinstance(self.word, Side):
            hook = hook_of_side(hook, info.kind)
        return self.device.netns._open(), info.name, info.ifindex, hook


def _placement(before: Anchor | None, after: Anchor | None) -> tuple[int, tuple[bool, int] | None]:
    if before is not None and after is not None:
        raise ValueError("before and after: give one of them")
    if before is not None:
        anchor = _anchor(before, "before")
        return (_FIRST if anchor is None else _BEFORE), anchor
    if after is not None:
        anchor = _anchor(after, "after")
        return (_LAST if anchor is None else _AFTER), anchor
    return _LAST, None


def _anchor(anchor: Anchor, argument: str) -> tuple[bool, int] | None:
    """Whether the anchor is a link, and its number; None for all of the hook."""
    if isinstance(anchor, Link):
        return True, anchor.id
    if isinstance(anchor, Program):
        return False, anchor.id
    if isinstance(anchor, AttachedProgram):
        return (False, anchor.id) if anchor.link_id is None else (True, anchor.link_id)
    if anchor == "all":
        return None
    choices = f"{argument} must be a Link, a Program, an AttachedProgram or 'all'"
    if not isinstance(anchor, str):
        raise TypeError(f"{choices}, not {type(anchor).__name__}")
    raise ValueError(f"{choices}, not {anchor!r}")
