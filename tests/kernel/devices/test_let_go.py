"""Who lets go of something that is open is told so, by its noun and the line that made it."""

from __future__ import annotations

import gc
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import netkit_bpf as nk
from elsewhere import needs_tcx
from in_child import in_child
from netkit_bpf import BPFObject, Monitor, NetkitPair, NetNS, Observer, RingBuffer
from programs import OBSERVER, ONE, VERDICTS, build, load
from veth import veth_pair

pytestmark = needs_tcx

RING = """
#include <netkit.h>
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
SEC("tc") int use(struct __sk_buff *skb)
{
	__u32 length = skb->len;

	bpf_ringbuf_output(&events, &length, sizeof(length), 0);
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture
def pair() -> Iterator[NetkitPair]:
    with NetNS.create() as here, NetNS.create() as there, veth_pair(here, there) as made:
        yield made


@pytest.fixture
def obj() -> Iterator[BPFObject]:
    with load(ONE) as loaded:
        yield loaded


@pytest.fixture
def tracefs(tmp_path: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tracefs", "tracefs", tmp_path], check=True)
    yield
    subprocess.run(["umount", tmp_path], check=True)


def told_of(make: Callable[[], object]) -> list[str]:
    """What is said when nobody keeps what is made, at once: what is part of a circle would wait for the collector."""
    gc.disable()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            make()
    finally:
        gc.enable()
    assert all(each.category is ResourceWarning for each in caught), caught
    return [str(each.message) for each in caught]


def test_a_link_that_nobody_keeps_is_told_and_detached(pair: NetkitPair, obj: BPFObject) -> None:
    (told,) = told_of(lambda: pair.primary.attach(obj.programs["one"], "ingress"))
    assert told.startswith("Link ")
    assert " on ve0 (ingress), made at " in told
    assert "test_let_go.py:" in told
    assert "was never closed: nobody refers to it any more, so it is closed now; keep it, and use `with`" in told
    assert pair.primary.hook("ingress").programs == ()


def test_each_kind_is_told_once_and_nothing_of_its_parts(pair: NetkitPair, tracefs: None) -> None:
    with load(OBSERVER) as observer, BPFObject.open(build(RING)) as ring:
        programs, verdict = {"peer": observer.programs["of_peer"]}, observer.variables["verdict"]
        kinds: dict[str, Callable[[], object]] = {
            "Monitor of ve0": lambda: Monitor(pair),
            "Observer of ve0": lambda: Observer(pair, programs, verdict=verdict),
            "RingBuffer of events": lambda: RingBuffer(ring.maps["events"], type=bytes),
            "BPFObject object": load,
            "TraceLog": nk.trace_log,
            "Watch": pair.watch,
            "Firewall of ve0": lambda: nk.Firewall(pair, "drop udp"),
            "LoadBalancer of tcp 10.0.0.9:80": lambda: nk.LoadBalancer(pair, "10.0.0.9", 80),
            "FlowMetrics of ve0": lambda: nk.FlowMetrics(pair, slots=64),
        }
        for noun, make in kinds.items():
            told = told_of(make)
            assert len(told) == 1, told
            assert told[0].startswith(f"{noun}, made at "), told


def test_what_was_used_is_closed_as_soon_as_what_was_not(pair: NetkitPair) -> None:
    def read_log() -> None:
        firewall = nk.Firewall(pair, "drop log udp")
        assert list(firewall.events(timeout=0)) == []
        firewall.replace("drop log tcp")

    def read_packets() -> None:
        monitor = Monitor(pair)
        list(monitor.events(timeout=0))  # a device that is new may send something by itself
        nk.Export(monitor).accounts()

    def take_flows() -> None:
        metrics = nk.FlowMetrics(pair, slots=64)
        metrics.snapshot()

    for noun, use in {"Firewall": read_log, "Monitor": read_packets, "FlowMetrics": take_flows}.items():
        (told,) = told_of(use)
        assert told.startswith(f"{noun} of ve0, made at "), told


def test_nothing_is_said_of_what_was_closed_or_holds_nothing(pair: NetkitPair, obj: BPFObject, bpffs: Path) -> None:
    def pinned() -> None:
        pair.primary.attach(obj.programs["one"], "ingress").pin(bpffs / "link")

    def detached() -> None:
        pair.primary.attach(obj.programs["one"], "ingress").detach()

    assert told_of(pinned) == []
    nk.Link.open_pinned(bpffs / "link").detach()
    assert told_of(detached) == []
    assert told_of(lambda: Monitor(pair).close()) == []
    assert told_of(lambda: nk.Firewall(pair, "drop udp").close()) == []
    assert told_of(lambda: BPFObject.open(build(VERDICTS))) == []  # not loaded


def test_nothing_is_said_of_what_was_never_whole() -> None:
    def refused() -> None:
        with pytest.raises(TypeError):
            Monitor(1)  # type: ignore[arg-type]

    assert told_of(refused) == []


def test_a_forked_child_says_nothing_of_its_parents(pair: NetkitPair) -> None:
    kept = [Monitor(pair)]
    assert in_child(lambda: str(told_of(kept.clear))) == "[]"
    kept[0].close()


def test_a_name_that_nobody_takes_away_is_told() -> None:
    (told,) = told_of(lambda: NetNS.create("nk-test-let-go"))
    assert told.startswith("NetNS nk-test-let-go, made at ")
    assert "was never deleted: its name stays" in told
    NetNS.open("nk-test-let-go").delete()
    assert told_of(NetNS.create) == []  # without a name it ends with its object


AT_EXIT = """
from netkit_bpf import NetNS
from netkit_bpf._core import hand_over
from netkit_bpf.devices.pair import create_pairs
from netkit_bpf.devices.pair_options import check_pair_options
here = NetNS.current()
options = check_pair_options("ve0", "ve1")
options.kind = "veth"
pair = create_pairs(here, [(options, here)])[0]; hand_over(pair)
"""


@pytest.mark.parametrize("end", ["", "pair.delete()"])
def test_a_pair_that_survives_the_end_of_python_is_told(end: str) -> None:
    argv = [sys.executable, "-W", "always::ResourceWarning", "-c", AT_EXIT + end]
    done = subprocess.run(["unshare", "--net", *argv], capture_output=True, text=True, check=True)
    assert ("ResourceWarning: NetkitPair ve0, made at <string>:9, was never deleted, and stays" in done.stderr) == (
        not end
    ), done.stderr
