# SPDX-License-Identifier: MIT
"""Hooks, and the links that hold programs on them (bpf(2), BPF_LINK_CREATE; kernel/bpf/mprog.c for the order)."""

from __future__ import annotations

import os
from typing import Literal, Protocol

from netkit_bpf._core import Link as CoreLink
from netkit_bpf._core import Namespace, hook_detach, hook_of_side, hook_query, program_open
from netkit_bpf.bpf.attached import AttachedProgram, HookPrograms
from netkit_bpf.bpf.pin_path import pin_path
from netkit_bpf.bpf.program import Program
from netkit_bpf.enums import Direction, Rank, Side
from netkit_bpf.internal.arguments import expect, expect_in, expect_word
from netkit_bpf.internal.resource import Closing

_LAST, _FIRST, _BEFORE, _AFTER, _BY_RANK = range(5)
_REVISION = range(1, 1 << 64)


class Link(Closing):
    """Holds a program on a hook.

    Made by `Hook.attach` (`NetkitPair.attach` and `Device.attach` are short for it), or by `open_pinned`. The device
    may be moved and renamed; once it is deleted the link holds nothing. As a context manager the link is closed on
    exit. It is also closed when the last reference to it is gone: keep it for as long as the program is to stay, or
    `pin` it. Any thread may use it.

    >>> with pair.attach(program, "peer") as link:  # doctest: +SKIP
    ...     link.update(other)
    """

    def __init__(self, core: CoreLink, hook: Hook | None, program: Program | None) -> None:
        self._core = expect(core, CoreLink, "core", "Hook.attach() makes a link, Link.open_pinned() takes a path")
        self._hook = hook
        self._id, program_id, kind, _ = core.info()
        self._side = _word_of(kind) if hook is None else hook.side
        self._known = (program_id, program)

    @classmethod
    def open_pinned(cls, path: str | os.PathLike[str]) -> Link:
        """Open the link that is pinned at a path.

        Raises:
            FileNotFoundError: nothing is pinned there.
            ValueError: what is pinned there is not a link to a netkit or tcx hook.
            PermissionError: CAP_BPF is missing.
        """
        return cls(CoreLink.open_pinned(pin_path(path)), None, None)

    @property
    def id(self) -> int:
        """The number by which the kernel knows the link."""
        self._open()
        return self._id

    @property
    def hook(self) -> Hook | None:
        """The hook; None for a link that was opened by its pin: the kernel does not report its namespace."""
        return self._hook

    @property
    def side(self) -> Side | Direction:
        """Which hook of its device: "primary" or "peer" of a netkit pair, "ingress" or "egress" of a device."""
        return self._side

    @property
    def program(self) -> Program:
        """The program that the link holds now.

        PermissionError: another process put it there, and CAP_SYS_ADMIN is missing.
        """
        program_id = self._open().info()[1]
        known_id, known = self._known
        if known is None or known_id != program_id or known._closed:
            known = Program._open_id(program_id, self._side.section)
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
        """Replace the program that the link holds, atomically.

        Each packet is handled by exactly one of the two programs.

        Args:
            program: not on this hook yet.
            expected: update only if the link holds this program now.

        Raises:
            FileExistsError: the program is on this hook already.
            OSError: ENOLINK, the device is gone or the link was detached; ESTALE, the link does not hold the expected
                program.
        """
        new = expect(program, Program, "program")._open()
        old = None if expected is None else expect(expected, Program, "expected")._open()
        self._open().update(new, old)
        self._known = (program.id, program)

    def detach(self) -> None:
        """Detach the program at once, even if others hold the link. Idempotent, also once the device is gone."""
        self._open().detach()

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Give the link a name on a BPF file system, which keeps the program attached without this process.

        Raises:
            FileExistsError: the path is taken.
            ValueError: the link is pinned already.
            OSError: the path is not on a BPF file system (`mount -t bpf bpf /sys/fs/bpf`).
        """
        self._open().pin(pin_path(path))

    def unpin(self) -> None:
        """Remove the name that `pin` gave, or by which `open_pinned` found the link. The program stays until `close`.

        Raises:
            ValueError: the link is not pinned.
            FileNotFoundError: another process removed the name.
        """
        self._open().unpin()

    def close(self) -> None:
        """Close the link. Idempotent.

        That detaches the program unless the link is pinned or another process holds it, such as a forked child.
        """
        self._core.close()

    def _open(self) -> CoreLink:
        if self._core.closed:
            raise ValueError(f"link {self._id} is closed")
        return self._core

    def __enter__(self) -> Link:
        self._open()
        return self

    def _noun(self) -> str:
        held = not self.closed and self.is_attached and self.pinned_at is None  # otherwise closing it changes nothing
        place = f"({self._side})" if self._hook is None else f"on {self._hook.name}"
        return f"Link {self._id} {place}" if held else ""

    def __repr__(self) -> str:
        place = f"({self._side})" if self._hook is None else f"on {self._hook.name}"
        return f"<Link {self._id} {place} {self._state()}>"

    def _state(self) -> str:
        try:
            return "attached" if self._core.info()[3] else "detached"
        except (OSError, ValueError):
            return "closed"  # another thread may just have closed it


Anchor = Link | Program | AttachedProgram | Literal["all"]


class HookDevice(Protocol):
    """What a hook needs of its device."""

    _known_name: str  # the last one

    def _reach(self) -> tuple[Namespace, str, int, str]:
        """The device's namespace, and its current name, number and kind there."""


class Hook:
    """A place where programs run on the packets of a device, in order.

    Made by `NetkitPair.hook` and `Device.hook`. The programs run one after the other until one returns something other
    than NEXT. The hook follows its device when that is renamed or moved. Any thread may use it.

    >>> hook = pair.hook("peer")  # doctest: +SKIP
    >>> link = hook.attach(obj.programs["drop"], before="all")  # doctest: +SKIP
    >>> hook.programs  # doctest: +SKIP
    (AttachedProgram(id=41, name='drop', link_id=7),)
    """

    def __init__(self, device: HookDevice, side: Side | Direction) -> None:
        self._device = device
        self._side = side

    @property
    def device(self) -> HookDevice:
        """The `Device` through which it is reached: for both hooks of a netkit pair, the primary."""
        return self._device

    @property
    def side(self) -> Side | Direction:
        """Which one: "primary" or "peer" of a netkit pair, "ingress" or "egress" of a device."""
        return self._side

    @property
    def name(self) -> str:
        """What errors call it, by the device's last known name: "nk0 (peer)"."""
        return f"{self._device._known_name} ({self._side})"

    @property
    def programs(self) -> tuple[AttachedProgram, ...]:
        """The programs on it, in the order in which they run.

        Raises:
            OSError: ENODEV, the device is gone.
            PermissionError: CAP_NET_ADMIN is missing.
        """
        return self.query().programs

    @property
    def revision(self) -> int | None:
        """The number of its changes, for `expected_revision`; None while it is empty: the kernel does not report it."""
        return self.query().revision

    def query(self) -> HookPrograms:
        """The revision and the programs, read at the same moment; raises what `programs` raises."""
        revision, found = hook_query(self._address())
        return HookPrograms(revision, tuple(AttachedProgram(id_, name, link or None) for id_, link, name in found))

    def attach(
        self,
        program: Program,
        *,
        rank: Rank | str | None = None,
        before: Anchor | None = None,
        after: Anchor | None = None,
        expected_revision: int | None = None,
    ) -> Link:
        """Attach a program, by default behind those already there.

        With a rank it goes where packet functions of this kind belong, in whatever order they are attached: a
        "firewall" in front of all, an "observer" behind the firewalls and in front of the rest, a "balancer" behind
        all. Firewalls of this package are recognised by the names of their programs; reading these takes CAP_SYS_ADMIN.

        Args:
            program: loaded, and not on this hook yet. A hook takes 63 programs.
            rank: "firewall", "observer" or "balancer"; `before` and `after` override it.
            before: attach in front of this one: a `Link`, a `Program`, an entry of `programs`, or "all".
            after: attach behind this one, likewise.
            expected_revision: attach only if this is the hook's revision now.

        Raises:
            ValueError: an argument is not valid on any kernel; the program is not loaded.
            FileExistsError: the program is on this hook already.
            FileNotFoundError: `before` or `after` is not on this hook.
            NotSupportedError: the kernel has no such hooks: netkit hooks came with 6.7, tcx hooks with 6.6.
            OSError: ESTALE, the revision is not the expected one; ERANGE, the hook is full; ENODEV, the device is gone;
                EINVAL, the program is of a type that hooks do not take.
            PermissionError: CAP_NET_ADMIN is missing.

        >>> link = device.hook("ingress").attach(program)  # doctest: +SKIP
        """
        core = expect(program, Program, "program")._open()
        where = placement(rank, before, after)
        revision = 0 if expected_revision is None else expect_in(expected_revision, _REVISION, "expected_revision")
        return Link(CoreLink(core, self._address(), where, revision), self, program)

    def detach(self, program: Program | AttachedProgram) -> None:
        """Detach a program that another tool attached without a link.

        Raises:
            OSError: EBUSY, a link holds it; the text names the link, which must be detached instead.
            FileNotFoundError: it is not on this hook.
        """
        if isinstance(program, AttachedProgram):
            core = program_open(program.id)
        else:
            core = expect(program, Program, "program")._open()
        hook_detach(self._address(), core)

    def __eq__(self, other: object) -> bool:
        """Whether both are the same hook of the same device object."""
        if not isinstance(other, Hook):
            return NotImplemented
        return (self._device, self._side) == (other._device, other._side)

    def __hash__(self) -> int:
        return hash((self._device, self._side))

    def __repr__(self) -> str:
        return f"<Hook {self.name} {self._state()}>"

    def _repr_html_(self) -> str | None:
        from netkit_bpf.internal.html import show

        return show(f"Hook {self.name}", lambda: self.query()._tables())

    def _state(self) -> str:
        try:
            revision, programs = self.query()
        except PermissionError:
            return "unreadable without CAP_NET_ADMIN"
        except (OSError, ValueError) as error:
            return f"unreadable: {getattr(error, 'strerror', None) or error}"
        if not programs:
            return "empty"
        return f"revision={revision}: {', '.join(each.name or f'program {each.id}' for each in programs)}"

    def _address(self) -> tuple[Namespace, str, int, str, int]:
        space, name, ifindex, kind = self._device._reach()
        hook = self._side.number
        return space, name, ifindex, kind, hook_of_side(hook, kind) if isinstance(self._side, Side) else hook


def _word_of(number: int) -> Side | Direction:
    words: list[Side | Direction] = [*Side, *Direction]
    return next(word for word in words if word.number == number)


def placement(rank: Rank | str | None, before: Anchor | None, after: Anchor | None) -> tuple[int, int, bool, int]:
    """The placement for the core: where, the rank, whether the anchor is a link, and its number."""
    number = 0 if rank is None else expect_word(rank, Rank, "rank").number
    if before is not None and after is not None:
        raise ValueError("before and after: give one of them")
    if before is not None:
        anchor = _anchor(before, "before")
        return (_FIRST, number, False, 0) if anchor is None else (_BEFORE, number, *anchor)
    if after is not None:
        anchor = _anchor(after, "after")
        return (_LAST, number, False, 0) if anchor is None else (_AFTER, number, *anchor)
    return (_LAST if rank is None else _BY_RANK), number, False, 0


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
