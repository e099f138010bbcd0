# SPDX-License-Identifier: MIT
"""Programs: bpf(2), Documentation/bpf/libbpf/program_types.rst."""

from __future__ import annotations

import functools
from typing import NamedTuple

from netkit_bpf._core import Object as CoreObject
from netkit_bpf._core import Program as CoreProgram
from netkit_bpf._core import program_open
from netkit_bpf.btf.codec import Array, Codec, Integer
from netkit_bpf.btf.structure import Member, Structure
from netkit_bpf.enums import Side, Verdict
from netkit_bpf.internal.arguments import expect, expect_in

_SCHED_CLS = 3
_SCHED_ACT = 4
_REPEAT = range(1, 1 << 31)
_ETHERNET_HEADER = 14  # bytes
_LARGEST_PACKET = 1 << 20  # more than the kernel takes


@functools.cache
def _sk_buff() -> Structure:
    """The fields of struct __sk_buff that a test run takes (convert___skb_to_skb() in net/bpf/test_run.c)."""
    u32, u64 = (Integer(f"__u{8 * size}", size, signed=False) for size in (4, 8))
    places: dict[str, tuple[int, Codec]] = {
        "mark": (8, u32),
        "priority": (32, u32),
        "ingress_ifindex": (36, u32),
        "ifindex": (40, u32),
        "cb": (48, Array("__u32[5]", u32, 5)),
        "tstamp": (152, u64),
        "wire_len": (160, u32),
        "gso_segs": (164, u32),
        "gso_size": (176, u32),
        "hwtstamp": (184, u64),
    }
    return Structure("struct __sk_buff", 192, [Member(name, codec, at * 8) for name, (at, codec) in places.items()])


class PacketContext(NamedTuple):
    """What a program sees of a packet beside its bytes: struct __sk_buff, as far as a test run takes it.

    Attributes:
        mark: the packet's mark, as SO_MARK and nftables set it.
        priority: its class for queueing disciplines.
        ingress_ifindex: the device that it came in by.
        ifindex: the device that it is on, of the calling thread's network namespace; 0 is its loopback device.
        cb: five words that programs leave for each other.
        tstamp: nanoseconds at which it may leave.
        wire_len: bytes on the wire, with headers; 0 for the packet's length.
        gso_segs: packets on the wire that it will become.
        gso_size: bytes of payload of each of them.
        hwtstamp: nanoseconds at which the device received it.
    """

    mark: int = 0
    priority: int = 0
    ingress_ifindex: int = 0
    ifindex: int = 0
    cb: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)
    tstamp: int = 0
    wire_len: int = 0
    gso_segs: int = 0
    gso_size: int = 0
    hwtstamp: int = 0


class TestRun(NamedTuple):
    """What a program made of a packet.

    Attributes:
        retval: what it returned, signed.
        verdict: what this means on a hook; None where it means nothing that has a name: netkit drops the packet.
        data: the packet afterwards.
        duration_ns: nanoseconds that one run took, the mean of all.
        context: what is beside the packet's bytes afterwards; None where none was given.
    """

    retval: int
    verdict: Verdict | None
    data: bytes
    duration_ns: int
    context: PacketContext | None = None


TestRun.__test__ = False  # type: ignore[attr-defined]  # pytest takes the name for a test's


class Program:
    """A program of a BPF object.

    Made by `BPFObject.programs`. Any thread may use it.
    """

    def __init__(self, name: str, section: str, kind: int) -> None:
        self._name = name
        self._section = section
        self._kind = kind
        self._closed = False
        self._autoload = True
        self._core: CoreProgram | None = None
        self._object: CoreObject | None = None  # until it is loaded

    @classmethod
    def _open_id(cls, id: int, section: str) -> Program:  # noqa: A002 - as the kernel names it
        """The program that the kernel knows by this number, which another process may have loaded."""
        core = program_open(id)
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
        return next((side for side in Side if side.section == self._section), None)

    @property
    def autoload(self) -> bool:
        """Whether it is loaded with its object (libbpf's word). It may be set until then.

        A section that begins with a question mark, `SEC("?netkit/peer")`, makes a program optional: False at first.

        Raises:
            ValueError: the object is loaded already, or closed.

        >>> program.programs["verbose"].autoload = True  # doctest: +SKIP
        """
        return self._autoload

    @autoload.setter
    def autoload(self, autoload: bool) -> None:
        expect(autoload, bool, "autoload")
        unloaded = self._object
        if unloaded is None:
            state = "closed" if self._closed else "loaded"
            raise ValueError(f"program '{self._name}' is {state}: autoload is set before load")
        unloaded.set_autoload(self._name, autoload)
        self._autoload = autoload

    @property
    def id(self) -> int:
        """The number by which the kernel knows it, once it is loaded."""
        return self._open().info()[0]

    @property
    def tag(self) -> str:
        """A hash of its instructions, as bpftool(8) shows it: 16 hexadecimal digits."""
        return self._open().info()[2].hex()

    def test_run(
        self, packet: bytes | bytearray | memoryview, *, repeat: int = 1, context: PacketContext | None = None
    ) -> TestRun:
        """Run the program on a packet that starts with its Ethernet header; no device is needed (BPF_PROG_TEST_RUN).

        Args:
            packet: at least 14 bytes and the IP header that its ethertype announces.
            repeat: how often, for the duration; the packet is made once and goes on as each run leaves it.
            context: the mark, the priority and the like that the program sees; the result then has them afterwards.

        Raises:
            ValueError: the program is not loaded, or its object is closed; the packet is no whole Ethernet header.
            TypeError: a program of this type sees no such context.
            OverflowError: a number does not fit its field of the context.
            OSError: EINVAL, the kernel refused the packet or the context; EOPNOTSUPP, it has no test run for this type
                of program.
            InterruptedError: a signal came before all runs were done.

        >>> program.test_run(bytes(12) + b"\\x86\\xdd" + bytes(40)).verdict  # doctest: +SKIP
        <Verdict.DROP: 'drop'>
        """
        expect_in(repeat, _REPEAT, "repeat")
        if not isinstance(packet, (bytes, bytearray, memoryview)):
            raise TypeError(f"packet must be bytes, not {type(packet).__name__}")
        if len(packet) > _LARGEST_PACKET:
            raise ValueError(f"packet must be at most {_LARGEST_PACKET} bytes, not {len(packet)}")
        if len(packet) < _ETHERNET_HEADER and self._kind in (_SCHED_CLS, _SCHED_ACT):
            raise ValueError(f"packet must be at least {_ETHERNET_HEADER} bytes, an Ethernet header, not {len(packet)}")
        given = b""
        if context is not None:
            if self._kind not in (_SCHED_CLS, _SCHED_ACT):
                raise TypeError(f"program '{self._name}' ({self._section}) sees no packet context")
            given = _sk_buff().encode(tuple(expect(context, PacketContext, "context")), "context")
        retval, data, duration, after = self._open().test_run(bytes(packet), repeat, given)
        known = Verdict if self._kind == _SCHED_CLS else ()
        verdict = next((each for each in known if each.number == retval), None)
        seen = PacketContext(*_sk_buff().decode(after)) if after else None
        return TestRun(retval, verdict, data, duration, seen)

    def close(self) -> None:
        """Let go of the program. What is attached stays so. Idempotent."""
        self._closed = True
        self._core = None
        self._object = None

    @property
    def closed(self) -> bool:
        """Whether it, or its object, was closed."""
        return self._closed

    def _fileno(self) -> int:
        """The descriptor, which stays this program's."""
        return self._open().fileno()

    def _open(self) -> CoreProgram:
        core = self._core  # which another thread may let go of
        if self._closed:
            raise ValueError(f"program '{self._name}' is closed")
        if core is None and self._object is not None:
            raise ValueError(f"program '{self._name}' is not loaded: call load() of its object first")
        if core is None:
            raise ValueError(f"program '{self._name}' was not loaded: set its autoload before load() of its object")
        return core

    def _load(self, core: CoreProgram | None) -> None:
        """Take what the kernel has made of it; None if nothing."""
        self._core = core
        self._object = None

    def __repr__(self) -> str:
        core = self._core  # which another thread may let go of
        state = "closed" if self._closed else "not loaded" if core is None else f"id {core.info()[0]}"
        return f"<Program {self._name} ({self._section}) {state}>"
