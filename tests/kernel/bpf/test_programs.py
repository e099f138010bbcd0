"""Programs run on packets that Python hands them: verdict, packet and context afterwards."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from netkit_bpf import BPFObject, PacketContext, Program, Side, TestRun, Verdict, VerifierError
from programs import HEADER, build

SOURCE = (
    HEADER
    + """
volatile int verdict;
SEC("netkit/primary") int say(struct __sk_buff *skb) { return verdict; }
SEC("netkit/peer") int rewrite(struct __sk_buff *skb)
{
	__u8 first = 0xee;

	bpf_skb_store_bytes(skb, 0, &first, 1, 0);
	bpf_skb_change_tail(skb, skb->len + 100, 0);
	return 0;
}
SEC("netkit/peer") int context(struct __sk_buff *skb)
{
	skb->mark++;
	skb->priority += 2;
	skb->cb[1] = skb->cb[0] + skb->ifindex;
	skb->cb[4] = skb->wire_len;
	skb->tstamp = skb->gso_segs * 1000 + skb->gso_size;
	return skb->ingress_ifindex;
}
SEC("tc") int plain(struct __sk_buff *skb) { return 0; }
SEC("xdp") int of_a_device(struct xdp_md *xdp) { return 2; }
SEC("socket") int of_a_socket(struct __sk_buff *skb) { return 2; }
SEC("raw_tp/sys_enter") int of_the_kernel(void *words) { return 0; }
SEC("perf_event") int of_a_timer(void *words) { return 0; }
"""
)
IPV6 = bytes(12) + b"\x86\xdd" + b"\x60" + bytes(39)


@pytest.fixture(scope="module")
def obj() -> Iterator[BPFObject]:
    with BPFObject.open(build(SOURCE)) as loaded:
        yield loaded


@pytest.mark.parametrize(
    ("returned", "verdict"),
    [
        (-1, Verdict.NEXT),
        (0, Verdict.PASS),
        (2, Verdict.DROP),
        (7, Verdict.REDIRECT),
        (1, None),
        (-2, None),
        (99, None),
    ],
)
def test_a_verdict_has_its_name(obj: BPFObject, returned: int, verdict: Verdict | None) -> None:
    obj.variables["verdict"].value = returned
    run = obj.programs["say"].test_run(IPV6)
    assert isinstance(run, TestRun)
    assert (run.retval, run.verdict, run.data, run.context) == (returned, verdict, IPV6, None)
    assert run.duration_ns >= 0


def test_the_packet_comes_back_as_the_program_left_it(obj: BPFObject) -> None:
    for packet in (IPV6, bytearray(IPV6), memoryview(IPV6), memoryview(IPV6 + bytes(2)).cast("Q")):
        run = obj.programs["rewrite"].test_run(packet)
        assert run.data == b"\xee" + bytes(packet)[1:] + bytes(100)
    # Each run goes on with what the one before left.
    assert len(obj.programs["rewrite"].test_run(IPV6, repeat=100).data) == len(IPV6) + 10_000


def test_the_context_is_set_and_read_back(obj: BPFObject) -> None:
    given = PacketContext(
        mark=41, priority=5, ingress_ifindex=1, ifindex=1, cb=(10, 0, 0, 0, 0), gso_segs=3, gso_size=7
    )
    run = obj.programs["context"].test_run(IPV6, context=given)
    after = run.context
    assert after is not None
    assert (after.mark, after.priority, after.cb[0], after.cb[1]) == (42, 7, 10, 11)
    assert (after.wire_len, after.cb[4]) == (len(IPV6), len(IPV6))
    assert after.tstamp == 3007
    assert run.retval == 1


@pytest.mark.parametrize(
    ("context", "error", "text"),
    [
        (PacketContext(mark=-1), OverflowError, r"context\.mark must be 0 to 4294967295, not -1"),
        (PacketContext(cb=(0, 0)), ValueError, r"context\.cb must have 5 elements, not 2"),  # type: ignore[arg-type]
        (PacketContext(tstamp="now"), TypeError, r"context\.tstamp must be an integer, not str"),  # type: ignore[arg-type]
        ({"mark": 1}, TypeError, "context must be a PacketContext, not dict"),
        (PacketContext(gso_segs=1 << 20), OSError, "run program 'context' on a packet of 54 bytes: Invalid argument"),
    ],
)
def test_a_wrong_context_is_named(obj: BPFObject, context: PacketContext, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        obj.programs["context"].test_run(IPV6, context=context)


def test_wrong_packets_and_repeats_are_refused(obj: BPFObject) -> None:
    say = obj.programs["say"]
    with pytest.raises(TypeError, match="packet must be bytes, not str"):
        say.test_run("packet")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="packet must be at least 14 bytes, an Ethernet header, not 5"):
        say.test_run(bytes(5))
    with pytest.raises(OSError, match="run program 'say' on a packet of 14 bytes") as caught:
        say.test_run(bytes(12) + b"\x86\xdd")
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(ValueError, match="packet must be at most 1048576 bytes, not 1048577"):
        say.test_run(bytes((1 << 20) + 1))
    for repeat in (0, -1, 1 << 31):
        with pytest.raises(ValueError, match="repeat must be 1 to 2147483647"):
            say.test_run(IPV6, repeat=repeat)
    with pytest.raises(TypeError, match="repeat must be an int, not str"):
        say.test_run(IPV6, repeat="3")  # type: ignore[arg-type]


def test_programs_know_what_they_are(obj: BPFObject) -> None:
    say = obj.programs["say"]
    assert (say.name, say.section, say.side) == ("say", "netkit/primary", Side.PRIMARY)
    assert obj.programs["rewrite"].side is Side.PEER
    assert obj.programs["plain"].side is None
    assert say.id > 0
    assert len(bytes.fromhex(say.tag)) == 8
    assert say.tag != obj.programs["rewrite"].tag
    assert repr(say) == f"<Program say (netkit/primary) id {say.id}>"


def test_programs_of_other_types_have_no_verdict_of_netkit(obj: BPFObject) -> None:
    assert obj.programs["plain"].test_run(IPV6).verdict is Verdict.PASS
    run = obj.programs["of_a_device"].test_run(IPV6)
    assert (run.retval, run.verdict) == (2, None)
    for name, section in (("of_a_device", "xdp"), ("of_a_socket", "socket")):
        with pytest.raises(TypeError, match=rf"program '{name}' \({section}\) sees no packet context"):
            obj.programs[name].test_run(IPV6, context=PacketContext())
    with pytest.raises(OSError, match=r"run program 'of_a_timer'.*this type of program") as caught:
        obj.programs["of_a_timer"].test_run(IPV6)
    assert caught.value.errno == errno.EOPNOTSUPP


def test_a_long_run_can_be_interrupted(obj: BPFObject) -> None:
    say = obj.programs["say"]
    quick = say.test_run(IPV6, repeat=100_000).duration_ns
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    start = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        say.test_run(IPV6, repeat=(1 << 31) - 1)
    timer.join()
    assert time.monotonic() - start < (1 << 31) * max(quick, 1) / 1e9 / 2 + 10


def test_use_before_load_and_after_close_is_a_value_error() -> None:
    obj = BPFObject.open(build(SOURCE))
    say = obj.programs["say"]

    def uses(program: Program) -> Iterator[str]:
        for use in (lambda: program.id, lambda: program.tag, lambda: program.test_run(IPV6), program._fileno):
            with pytest.raises(ValueError, match="program 'say'") as caught:
                use()
            yield str(caught.value)

    assert set(uses(say)) == {"program 'say' is not loaded: call load() of its object first"}
    obj.load()
    obj.programs["plain"].close()
    assert (obj.programs["plain"].closed, say.closed) == (True, False)
    obj.close()
    assert say.closed
    assert set(uses(say)) == {"program 'say' is closed"}
    assert repr(say) == "<Program say (netkit/primary) closed>"


def test_a_program_without_a_licence_is_told_which_line_it_needs() -> None:
    source = '#include <netkit.h>\nSEC("netkit/peer") int say(struct __sk_buff *skb) { bpf_printk("hello"); return 0; }'
    refused = BPFObject.open(build(source))
    with pytest.raises(VerifierError, match=r'add char LICENSE\[\] SEC\("license"\) = "GPL"'):
        refused.load()
    refused.close()
