# SPDX-License-Identifier: MIT
"""Observers: programs that see every packet of a pair and alter nothing (drivers/net/netkit.c for what policies do)."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from netkit_bpf import _core
from netkit_bpf.arguments import expect
from netkit_bpf.enums import Side, parse
from netkit_bpf.program import Program
from netkit_bpf.variable import Variable

if TYPE_CHECKING:  # which imports this module
    from netkit_bpf.device import Device

_VERDICTS_SIZE = 8  # two __s32


class Observation:
    """Keeps an observer's programs on the hooks of a pair, and what they return in accord with the pair's policies.

    Made by `NetkitPair.observe`. As a context manager it is closed on exit. Any thread may use it. The pair may be
    renamed; once its primary is moved to another namespace, changes of policy are not followed any more.
    """

    def __init__(self, device: Device, programs: Mapping[Side | str, Program], verdict: Variable, name: str) -> None:
        """Not for callers: use `NetkitPair.observe`."""
        by_side = _by_side(programs)
        expect(verdict, Variable, "verdict")
        core = verdict._open()
        section, offset, size = core.variable(verdict.name)
        if not verdict._loaded:
            raise ValueError(f"variable '{verdict.name}' is of an object that is not loaded: call its load() first")
        if size != _VERDICTS_SIZE:
            raise ValueError(f"variable '{verdict.name}' has {size} bytes: a verdict for each side is __s32[2]")
        self._name = expect(name, str, "name")
        self._device = device.name
        self._core = _core.Attachment(
            name,
            device.netns.path,
            self._device,
            device.ifindex,
            by_side.get(Side.PRIMARY),
            by_side.get(Side.PEER),
            core.map(section),
            offset,
        )
        self._closer = weakref.finalize(self, _close, self._core, os.getpid())

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


def _by_side(programs: Mapping[Side | str, Program]) -> dict[Side, _core.Program]:
    expect(programs, Mapping, "programs")  # type: ignore[type-abstract]
    if not programs:
        raise ValueError("programs must have a program for one side or both")
    return {
        parse(Side, side, "programs"): expect(program, Program, "programs")._open()
        for side, program in programs.items()
    }


def _close(core: _core.Attachment, process: int) -> None:
    if os.getpid() == process:  # a forked child has nothing of its own to detach
        core.close()
