# SPDX-License-Identifier: MIT
"""Observers: programs that see every packet of a pair and alter nothing (drivers/net/netkit.c for what policies do)."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from netkit_bpf import _core
from netkit_bpf.account import Filtered
from netkit_bpf.arguments import expect
from netkit_bpf.enums import Side, parse
from netkit_bpf.filter import Filter
from netkit_bpf.program import Program
from netkit_bpf.variable import Variable

if TYPE_CHECKING:  # which imports this module
    from netkit_bpf.device import Device

_VERDICT_SIZE = 4  # __s32


class Observation:
    """Keeps an observer's programs on the hooks of a pair, and what they return in accord with the pair's policies.

    Made by `NetkitPair.observe`. As a context manager it is closed on exit. Any thread may use it. The pair may be
    renamed; once its primary is moved to another namespace, changes of policy are not followed any more.
    """

    def __init__(
        self,
        device: Device,
        programs: Mapping[Side | str, Program],
        verdict: Variable,
        name: str,
        filter: str | None,  # noqa: A002 - tcpdump's and libpcap's word
    ) -> None:
        """Not for callers: use `NetkitPair.observe`."""
        primary, peer = _by_side(programs)
        expect(verdict, Variable, "verdict")
        core = verdict._open()
        section, offset, size = core.variable(verdict.name)
        if not verdict._loaded:
            raise ValueError(f"variable '{verdict.name}' is of an object that is not loaded: call its load() first")
        if size != 2 * _VERDICT_SIZE:
            raise ValueError(f"variable '{verdict.name}' has {size} bytes: a verdict for each side is __s32[2]")
        self._name = expect(name, str, "name")
        cells = core.map(section)
        self._filter = None if filter is None else Filter(filter)
        if self._filter is not None:
            primary = primary and self._filter.before(primary, 0, cells, offset)
            peer = peer and self._filter.before(peer, 1, cells, offset + _VERDICT_SIZE)
        self._device = device.name
        netns = device.netns.path
        self._core = _core.Attachment(name, netns, self._device, device.ifindex, primary, peer, cells, offset)
        self._closer = weakref.finalize(self, _close, self._core, self._filter, os.getpid())

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return not self._closer.alive

    def check(self) -> None:
        """Look again at the policies and at what else is attached, and set the verdicts.

        Raises:
            ValueError: the observation is closed.
            OSError: ENODEV, the pair was deleted, or somebody detached a program.
        """
        if self.closed:
            raise ValueError(f"the observation of {self._device} is closed")
        self._core.check()

    @property
    def filtered(self) -> Filtered:
        """How many packets did not match the filter, a side each. After `close`, the final counts."""
        return Filtered(0, 0) if self._filter is None else Filtered(*self._filter.filtered)

    def close(self) -> None:
        """Detach the programs: once this returns they see no packet any more. Idempotent."""
        self._closer()

    def __enter__(self) -> Observation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Observation {self._name} of {self._device} {'closed' if self.closed else 'open'}>"


def _by_side(programs: Mapping[Side | str, Program]) -> tuple[_core.Program | None, _core.Program | None]:
    expect(programs, Mapping, "programs")  # type: ignore[type-abstract]
    if not programs:
        raise ValueError("programs must have a program for one side or both")
    found = {
        parse(Side, side, "programs"): expect(program, Program, "programs")._open()
        for side, program in programs.items()
    }
    return found.get(Side.PRIMARY), found.get(Side.PEER)


def _close(core: _core.Attachment, filter: Filter | None, process: int) -> None:  # noqa: A002
    if os.getpid() != process:
        return  # a forked child has nothing of its own to detach
    try:
        core.close()
    finally:
        if filter is not None:
            filter.close()
