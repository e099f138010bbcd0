# SPDX-License-Identifier: MIT
"""Linux netkit devices and their eBPF hooks from Python.

>>> import netkit_bpf as nk
>>> with nk.NetNS.create() as ns, nk.NetkitPair.create("nk0", peer_netns=ns) as pair:  # doctest: +SKIP
...     with nk.Monitor(pair) as monitor:
...         for event in monitor.events(timeout=1.0):
...             print(event)

Importing this package does not touch the kernel.
"""

from __future__ import annotations

try:
    from netkit_bpf.internal import main_interpreter as _main_interpreter  # noqa: F401, I001 - first: see there
    from netkit_bpf import _core as _core
except ImportError as error:  # say which interpreter could not load what, for a wheel in the wrong place
    from netkit_bpf.import_failure import explain as _explain

    raise ImportError(_explain(error, __path__)) from error

from typing import TYPE_CHECKING

from netkit_bpf.bpf.attached import AttachedProgram, HookPrograms
from netkit_bpf.bpf.hook import Anchor, Hook, Link
from netkit_bpf.bpf.map import Map
from netkit_bpf.bpf.map_types import MapFlags
from netkit_bpf.bpf.object import BPFObject
from netkit_bpf.bpf.program import PacketContext, Program, TestRun
from netkit_bpf.bpf.variable import Variable
from netkit_bpf.devices.device import Device
from netkit_bpf.devices.netns import NetNS
from netkit_bpf.devices.pair import NetkitPair, pairs
from netkit_bpf.devices.route import Route
from netkit_bpf.devices.statistics import Statistics
from netkit_bpf.enums import AddrGenMode, ChangeKind, Direction, Mode, Policy, Rank, Scrub, Side, Verdict
from netkit_bpf.errors import CompileError, NotAPairError, NotSupportedError, VerifierError
from netkit_bpf.events.batch import EventBatch
from netkit_bpf.events.event import Fragment, PacketEvent, Protocol, TCPFlags
from netkit_bpf.events.packet_reader import PacketReader
from netkit_bpf.events.stats import HidingProgram, MonitorStats, PairStats, ReadingStats, SideStats
from netkit_bpf.functions.monitor import Monitor
from netkit_bpf.internal.resource import Closing
from netkit_bpf.observer.filter import Filter, FilteredCounts
from netkit_bpf.observer.observer import Observer

if TYPE_CHECKING:  # imported when they are asked for: see _LATER
    from IPython.core.interactiveshell import InteractiveShell

    from netkit_bpf.balancer.maglev import MaglevTable
    from netkit_bpf.bpf.holders import LinkHolder, link_holders
    from netkit_bpf.bpf.tracing.trace import TraceLine, TraceLog, trace_log
    from netkit_bpf.devices.netkit_device import NetkitDevice
    from netkit_bpf.devices.orphan import Orphan
    from netkit_bpf.devices.reap import orphans, reap
    from netkit_bpf.devices.watch import DeviceChange, Watch
    from netkit_bpf.events.files.capture_file import CaptureFile
    from netkit_bpf.events.pair_changes import PairChange, PairChanges
    from netkit_bpf.events.ring_buffer import RingBuffer, RingStats
    from netkit_bpf.events.tcpdump import TcpdumpFormat
    from netkit_bpf.export.account import Account
    from netkit_bpf.export.batch import ExportBatch
    from netkit_bpf.export.export import Export
    from netkit_bpf.export.prometheus import FlowCollector
    from netkit_bpf.firewall.counts import RuleCount, RuleCounts
    from netkit_bpf.firewall.explanation import Explanation
    from netkit_bpf.firewall.rule import Rule
    from netkit_bpf.firewall.ruleset import Ruleset
    from netkit_bpf.firewall.verdict_event import VerdictEvent
    from netkit_bpf.flows.flow import Flow
    from netkit_bpf.flows.reader import FlowReader
    from netkit_bpf.flows.table import FlowCount, FlowTable
    from netkit_bpf.functions.backend import Backend, BackendStats
    from netkit_bpf.functions.balancer import BalancerStats, LoadBalancer
    from netkit_bpf.functions.firewall import Firewall
    from netkit_bpf.functions.metrics import FlowMetrics
    from netkit_bpf.functions.verdict_reader import VerdictIterator, VerdictReader
    from netkit_bpf.lab.lab import Lab
    from netkit_bpf.lab.node import Node

# Public names that most programs do not use and whose modules take long to import.
_LATER = {
    "MaglevTable": "balancer.maglev",
    "Backend": "functions.backend",
    "BackendStats": "functions.backend",
    "BalancerStats": "functions.balancer",
    "LoadBalancer": "functions.balancer",
    "LinkHolder": "bpf.holders",
    "link_holders": "bpf.holders",
    "TraceLine": "bpf.tracing.trace",
    "TraceLog": "bpf.tracing.trace",
    "trace_log": "bpf.tracing.trace",
    "Lab": "lab.lab",
    "Node": "lab.node",
    "NetkitDevice": "devices.netkit_device",
    "Orphan": "devices.orphan",
    "orphans": "devices.reap",
    "reap": "devices.reap",
    "DeviceChange": "devices.watch",
    "Watch": "devices.watch",
    "CaptureFile": "events.files.capture_file",
    "TcpdumpFormat": "events.tcpdump",
    "RingBuffer": "events.ring_buffer",
    "RingStats": "events.ring_buffer",
    "PairChange": "events.pair_changes",
    "PairChanges": "events.pair_changes",
    "Account": "export.account",
    "ExportBatch": "export.batch",
    "Export": "export.export",
    "RuleCount": "firewall.counts",
    "RuleCounts": "firewall.counts",
    "Rule": "firewall.rule",
    "Ruleset": "firewall.ruleset",
    "Flow": "flows.flow",
    "FlowCollector": "export.prometheus",
    "FlowCount": "flows.table",
    "FlowReader": "flows.reader",
    "FlowTable": "flows.table",
    "Explanation": "firewall.explanation",
    "Firewall": "functions.firewall",
    "FlowMetrics": "functions.metrics",
    "VerdictEvent": "firewall.verdict_event",
    "VerdictIterator": "functions.verdict_reader",
    "VerdictReader": "functions.verdict_reader",
}


def __getattr__(name: str) -> object:
    """Import lazily (PEP 562): the names of _LATER, and the version."""
    if name == "__version__":
        from importlib.metadata import version

        return version("netkit-bpf")
    if name not in _LATER:
        raise AttributeError(f"module 'netkit_bpf' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"netkit_bpf.{_LATER[name]}"), name)
    return value


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Do what `%load_ext netkit_bpf` asks for: register the magics `%%bpf` and `%netkit`."""
    from netkit_bpf.ipython import load

    load(shell)


def __dir__() -> list[str]:
    """List the public names only, not the modules that define them."""
    return __all__


__all__ = [
    "Account",
    "AddrGenMode",
    "Anchor",
    "AttachedProgram",
    "BPFObject",
    "Backend",
    "BackendStats",
    "BalancerStats",
    "CaptureFile",
    "ChangeKind",
    "Closing",
    "CompileError",
    "Device",
    "DeviceChange",
    "Direction",
    "EventBatch",
    "Explanation",
    "Export",
    "ExportBatch",
    "Filter",
    "FilteredCounts",
    "Firewall",
    "Flow",
    "FlowCollector",
    "FlowCount",
    "FlowMetrics",
    "FlowReader",
    "FlowTable",
    "Fragment",
    "HidingProgram",
    "Hook",
    "HookPrograms",
    "Lab",
    "Link",
    "LinkHolder",
    "LoadBalancer",
    "MaglevTable",
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
    "PairChange",
    "PairChanges",
    "PairStats",
    "Policy",
    "Program",
    "Protocol",
    "Rank",
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
    "TcpdumpFormat",
    "TestRun",
    "TraceLine",
    "TraceLog",
    "Variable",
    "Verdict",
    "VerdictEvent",
    "VerdictIterator",
    "VerdictReader",
    "VerifierError",
    "Watch",
    "link_holders",
    "orphans",
    "pairs",
    "reap",
    "trace_log",
]
