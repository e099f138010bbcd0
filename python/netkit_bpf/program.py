# SPDX-License-Identifier: MIT
"""Programs: bpf(2), Documentation/bpf/libbpf/program_types.rst."""

from __future__ import annotations

from typing import NamedTuple

from netkit_bpf import _core
from netkit_bpf.arguments import expect, expect_in
from netkit_bpf.enums import Side, Verdict

_SIDES = {"netkit/primary": Side.PRIMARY, "netkit/peer": Side.PEER}
_VERDICTS = {-1: Verdict.NEXT, 0: Verdict.PASS, 2: Verdict.DROP, 7: Verdict.REDIRECT}
_SCHED_CLS = 3
_REPEAT = range(1, 1 << 31)


class TestRun(NamedTuple):
    """What a program made of a packet.

    Attributes:
        retval: what it returned, signed.
        verdict: what this means on a hook; None where it means nothing that has a name: netkit drops the packet.
        data: the packet afterwards.
        duration_ns: nanoseconds that one run took, the mean of all.
    """

    retval: int
    verdict: Verdict | None
    data: bytes
    duration_ns: int


TestRun.__test__ = False  # type: ignore[attr-defined]  # pytest takes the name for a test's


class Program:
    """A program of a BPF object.

    Got from `BPFObject.programs`. Any thread may use it.
    """

    def __init__(self, name: str, section: str, kind: int) -> None:
        """Not for callers: programs come from an object."""
        self._name = name
        self._section = section
        self._kind = kind
        self._closed = False
        self._core: _core.Program | None = None

    @classmethod
    def _open_id(cls, id: int, section: str) -> Program:  # noqa: A002 - as the kernel names it
        """The program that the kernel knows by this number, which another process may have loaded."""
        core = _core.program_open(id)
        _, kind, _, name = core.info()
        program = cls(name, section, kind)
        program._core = core
        return program

    @property
    def name(self) -> str:
        """Its function's name in the source."""
        return self._name

    @property
    def section(self) -> str:
        """The section that it was compiled into: "netkit/primary"."""
        return self._section

    @property
    def side(self) -> Side | None:
        """The side that its section names; None if it names none."""
        return _SIDES.get(self._section)

    @property
    def id(self) -> int:
        """The number by which the kernel knows it, once it is loaded."""
        return self._open().info()[0]

    @property
    def tag(self) -> str:
        """A hash of its instructions, as bpftool(8) shows it: 16 hexadecimal digits."""
        return self._open().info()[2].hex()

    def test_run(self, packet: bytes, *, repeat: int = 1) -> TestRun:
        """Run the program on a packet that starts with its Ethernet header, with no device.

        Args:
            packet: at least 14 bytes and the IP header that its ethertype announces.
            repeat: how often, for the duration; the packet is made once and goes on as each run leaves it.

        Raises:
            ValueError: the program is not loaded, or its object is closed.
            OSError: the kernel refused the packet, or knows no test run for this type of program.
        """
        expect_in(repeat, _REPEAT, "repeat")
        retval, data, duration, _ = self._open().test_run(bytes(expect(packet, bytes, "packet")), repeat, b"")
        verdict = _VERDICTS.get(retval) if self._kind == _SCHED_CLS else None
        return TestRun(retval, verdict, data, duration)

    def _fileno(self) -> int:
        """The descriptor, which stays this program's."""
        return self._open().fileno()

    def _open(self) -> _core.Program:
        if self._closed:
            raise ValueError(f"the object of program '{self._name}' is closed")
        if self._core is None:
            raise ValueError(f"program '{self._name}' is not loaded: call load() of its object first")
        return self._core

    def __repr__(self) -> str:
        state = "closed" if self._closed else "not loaded" if self._core is None else f"id {self.id}"
        return f"<Program {self._name} ({self._section}) {state}>"
