# SPDX-License-Identifier: MIT
"""Linux netkit devices and their eBPF hooks from Python.

>>> import netkit_bpf as nk
>>> with nk.NetNS.create() as ns, nk.NetkitPair.create("nk0", peer_netns=ns) as pair:  # doctest: +SKIP
...     with nk.Monitor(pair) as monitor:
...         for event in monitor.events(timeout=1.0):
...             print(event)

Importing this package asks nothing of the kernel.
"""

from __future__ import annotations

try:
    from netkit_bpf.internal import main_interpreter as _main_interpreter  # noqa: F401, I001 - first: see there
    from netkit_bpf import _core as _core
except ImportError as error:  # say which interpreter could not load what, for a wheel in the wrong place
    import sys as _sys

    raise ImportError(
        f"netkit_bpf's extension module does not load in Python {_sys.version.split()[0]} ({_sys.executable}): {error}"
    ) from error

from netkit_bpf.bpf.attached import AttachedProgram, HookPrograms
from netkit_bpf.bpf.hook import Hook, Link
from netkit_bpf.bpf.map import Map
from netkit_bpf.bpf.map_types import MapFlags
from netkit_bpf.bpf.object import BPFObject
from netkit_bpf.bpf.program import PacketContext, Program, TestRun
from netkit_bpf.bpf.trace import TraceLine, TraceLog, trace_log
from netkit_bpf.bpf.variable import Variable
from netkit_bpf.devices.device import Device
from netkit_bpf.devices.lab import Lab, Node
from netkit_bpf.devices.netkit_device import NetkitDevice
from netkit_bpf.devices.netns import NetNS
from netkit_bpf.devices.orphan import Orphan
from netkit_bpf.devices.pair import NetkitPair, pairs
from netkit_bpf.devices.reap import orphans, reap
from netkit_bpf.devices.route import Route
from netkit_bpf.devices.statistics import Statistics
from netkit_bpf.devices.watch import DeviceChange, Watch
from netkit_bpf.enums import AddrGenMode, ChangeKind, Direction, Mode, Policy, Scrub, Side, Verdict
from netkit_bpf.errors import CompileError, NotAPairError, NotSupportedError, VerifierError
from netkit_bpf.events.batch import EventBatch
from netkit_bpf.events.event import Fragment, PacketEvent, Protocol, TCPFlags
from netkit_bpf.events.packet_reader import PacketReader
from netkit_bpf.events.ring_buffer import RingBuffer, RingStats
from netkit_bpf.events.stats import MonitorStats, ReadingStats, SideStats
from netkit_bpf.firewall.rule import Rule
from netkit_bpf.firewall.ruleset import Ruleset
from netkit_bpf.functions.firewall import Explanation, Firewall, RuleCount, RuleCounts
from netkit_bpf.functions.monitor import Monitor
from netkit_bpf.observer.filter import Filter, FilteredCounts
from netkit_bpf.observer.observer import Observer


def __getattr__(name: str) -> str:
    """Look the version up when it is asked for (PEP 562): reading the package's metadata takes a while."""
    if name != "__version__":
        raise AttributeError(f"module 'netkit_bpf' has no attribute {name!r}")
    from importlib.metadata import version

    return version("netkit-bpf")


def __dir__() -> list[str]:
    """Show what is public: the modules in which it stands are not."""
    return __all__


__all__ = [
    "AddrGenMode",
    "AttachedProgram",
    "BPFObject",
    "ChangeKind",
    "CompileError",
    "Device",
    "DeviceChange",
    "Direction",
    "EventBatch",
    "Explanation",
    "Filter",
    "FilteredCounts",
    "Firewall",
    "Fragment",
    "Hook",
    "HookPrograms",
    "Lab",
    "Link",
    "Map",
    "MapFlags",
    "Mode",
    "Monitor",
    "MonitorStats",
    "NetNS",
    "NetkitDevice",
    "NetkitPair",
    "Node",
    "NotAPairError",
    "NotSupportedError",
    "Observer",
    "Orphan",
    "PacketContext",
    "PacketEvent",
    "PacketReader",
    "Policy",
    "Program",
    "Protocol",
    "ReadingStats",
    "RingBuffer",
    "RingStats",
    "Route",
    "Rule",
    "RuleCount",
    "RuleCounts",
    "Ruleset",
    "Scrub",
    "Side",
    "SideStats",
    "Statistics",
    "TCPFlags",
    "TestRun",
    "TraceLine",
    "TraceLog",
    "Variable",
    "Verdict",
    "VerifierError",
    "Watch",
    "orphans",
    "pairs",
    "reap",
    "trace_log",
]
