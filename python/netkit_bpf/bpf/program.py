# SPDX-License-Identifier: MIT
"""Programs: bpf(2), Documentation/bpf/libbpf/program_types.rst."""

from __future__ import annotations

import functools
import os
from typing import NamedTuple

from netkit_bpf._core import Program as CoreProgram
from netkit_bpf._core import program_open, program_open_pinned
from netkit_bpf.bpf.loadable import Loadable
from netkit_bpf.bpf.pin_path import pin_path
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
    """What a program sees of a packet beside its bytes: the fields of struct __sk_buff that a test run takes.

    Attributes:
        mark: the packet's mark, as SO_MARK and nftables set it.
        priority: its class for queueing disciplines.
        ingress_ifindex: the device that received it.
        ifindex: the device that it is on, in the calling thread's network namespace; 0 is its loopback device.
        cb: five words that programs pass to each other.
        tstamp: time in nanoseconds at which it may leave.
        wire_len: bytes on the wire, with headers; 0 for the packet's length.
        gso_segs: how many packets on the wire it will become.
        gso_size: payload bytes of each of them.
        hwtstamp: time in nanoseconds at which the device received it.
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
    """The result of running a program on a packet.

    Attributes:
        retval: the return value, signed.
        verdict: its meaning on a hook; None for a value without a name: netkit drops the packet.
        data: the packet afterwards.
        duration_ns: nanoseconds of one run, the mean of all.
        context: the context afterwards; None if none was given.
    """

    retval: int
    verdict: Verdict | None
    data: bytes
    duration_ns: int
    context: PacketContext | None = None


TestRun.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it as a test


class Program(Loadable[CoreProgram]):
    """A program of a BPF object.

    Made by `BPFObject.programs`, or by `open_pinned`. Any thread may use it.
    """

    _kind_called = "program"
    _unmade = "was not loaded: set its autoload before load() of its object"

    def __init__(self, name: str, section: str, kind: int) -> None:
        super().__init__(name)
        self._section = section
        self._kind = kind
        self._autoload = True

    @classmethod
    def open_pinned(cls, path: str | os.PathLike[str]) -> Program:
        """Open the program that is pinned at a path. Its `section` is empty: the kernel does not keep it.

        Raises:
            FileNotFoundError: nothing is pinned there.
            ValueError: what is pinned there is not a program.
            PermissionError: CAP_BPF is missing, or the file's mode forbids it.

        >>> program = Program.open_pinned("/sys/fs/bpf/drop_long")  # doctest: +SKIP
        """
        return cls._opened(program_open_pinned(pin_path(path)), "")

    @classmethod
    def _open_id(cls, id: int, section: str) -> Program:  # noqa: A002 - as the kernel names it
        """The program with this id in the kernel; another process may have loaded it."""
        return cls._opened(program_open(id), section)

    @classmethod
    def _opened(cls, core: CoreProgram, section: str) -> Program:
        _, kind, _, name = core.info()
        program = cls(name, section, kind)
        program._core = core
        return program

    @property
    def section(self) -> str:
        """The section that it was compiled into: "netkit/primary"."""
        return self._section

    @property
    def side(self) -> Side | None:
        """The side that its section names, or None."""
        return next((side for side in Side if side.section == self._section), None)

    @property
    def autoload(self) -> bool:
        """Whether the program is loaded with its object (libbpf's term). It can be set until then.

        A section that begins with a question mark, `SEC("?netkit/peer")`, makes a program optional: autoload is False
        at first.

        Raises:
            ValueError: the object is loaded already, or closed.

        >>> program.programs["verbose"].autoload = True  # doctest: +SKIP
        """
        return self._autoload

    @autoload.setter
    def autoload(self, autoload: bool) -> None:
        expect(autoload, bool, "autoload")
        self._unloaded("set autoload").set_autoload(self._name, autoload)
        self._autoload = autoload

    @property
    def id(self) -> int:
        """The number by which the kernel knows it, once it is loaded."""
        return self._open().info()[0]

    @property
    def tag(self) -> str:
        """A hash of its instructions, as bpftool(8) shows it: 16 hexadecimal digits."""
        return self._open().info()[2].hex()

    def pin(self, path: str | os.PathLike[str]) -> None:
        """Give the program a name on a BPF file system, which keeps it loaded without this process.

        Removing the file ends that.

        Raises:
            FileExistsError: the path is taken.
            ValueError: the program is not loaded, or closed.
            OSError: the path is not on a BPF file system (`mount -t bpf bpf /sys/fs/bpf`); names on one have no dots.

        >>> obj.programs["drop_long"].pin("/sys/fs/bpf/drop_long")  # doctest: +SKIP
        """
        self._open().pin(pin_path(path))

    def test_run(
        self, packet: bytes | bytearray | memoryview, *, repeat: int = 1, context: PacketContext | None = None
    ) -> TestRun:
        """Run the program on a packet that starts with its Ethernet header; no device is needed (BPF_PROG_TEST_RUN).

        Args:
            packet: at least 14 bytes, plus the IP header if its EtherType is IP.
            repeat: how often to run it, to measure the duration; each run gets the packet as the run before left it.
            context: the mark, the priority and other fields that the program sees; the result has them as they are
                afterwards.

        Raises:
            ValueError: the program is not loaded, or its object is closed; the packet is shorter than an Ethernet
                header.
            TypeError: a program of this type has no packet context.
            OverflowError: a number does not fit its field of the context.
            OSError: EINVAL, the kernel refused the packet or the context; EOPNOTSUPP, the kernel cannot test-run this
                type of program.
            InterruptedError: a signal came before all runs were done.

        >>> program.test_run(bytes(12) + b"\\x86\\xdd" + bytes(40)).verdict  # doctest: +SKIP
        <Verdict.DROP: 'drop'>
        """
        expect_in(repeat, _REPEAT, "repeat")
        if not isinstance(packet, (bytes, bytearray, memoryview)):
            raise TypeError(f"packet must be bytes, not {type(packet).__name__}")
        packet = bytes(packet)  # the length of a memoryview counts its items
        if len(packet) > _LARGEST_PACKET:
            raise ValueError(f"packet must be at most {_LARGEST_PACKET} bytes, not {len(packet)}")
        if len(packet) < _ETHERNET_HEADER and self._kind in (_SCHED_CLS, _SCHED_ACT):
            raise ValueError(f"packet must be at least {_ETHERNET_HEADER} bytes, an Ethernet header, not {len(packet)}")
        given = b""
        if context is not None:
            if self._kind not in (_SCHED_CLS, _SCHED_ACT):
                raise TypeError(f"program '{self._name}' ({self._section}) sees no packet context")
            given = _sk_buff().encode(tuple(expect(context, PacketContext, "context")), "context")
        retval, data, duration, after = self._open().test_run(packet, repeat, given)
        known = Verdict if self._kind == _SCHED_CLS else ()
        verdict = next((each for each in known if each.number == retval), None)
        seen = PacketContext(*_sk_buff().decode(after)) if after else None
        return TestRun(retval, verdict, data, duration, seen)

    def _repr_html_(self) -> str | None:
        from netkit_bpf.internal.html import facts, show

        return show(f"Program {self._name}", lambda: [facts(section=self.section, id=self.id, tag=self.tag)])

    def __repr__(self) -> str:
        core = self._core  # another thread may close it
        state = "closed" if self._closed else "not loaded" if core is None else f"id {core.info()[0]}"
        return f"<Program {self._name} ({self._section}) {state}>"
