# SPDX-License-Identifier: MIT
"""The firewall on the tcx hooks of a veth pair: the whole path, natively."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from ipaddress import ip_network

import numpy as np
import pytest

from in_child import in_child
from netkit_bpf import Explanation, Firewall, Map, Monitor, PacketEvent, Rule, RuleCount, Ruleset, Side, Verdict
from netkit_bpf.functions import firewall as firewall_module
from packets import ipv4, udp
from replacing import replace_under_traffic
from traffic import Wire, collect, connect_and_send, ping, send_datagrams, towards
from unprivileged import unprivileged
from veth import veth_wire

UDP = 17
CAP_NET_BROADCAST = 11  # linux/capability.h
SO_RCVBUFFORCE = 33  # asm-generic/socket.h


@pytest.fixture(params=[4, 6])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    with veth_wire(request.param) as wire:
        yield wire


@pytest.fixture
def wire4() -> Iterator[Wire]:
    with veth_wire(4) as wire:
        yield wire


def test_a_blocked_service_is_blocked_and_another_is_not(wire: Wire) -> None:
    with wire.right.socket(socket.SOCK_STREAM) as closed, wire.right.socket(socket.SOCK_STREAM) as opened:
        for listener in (closed, opened):
            listener.bind(wire.right.name(0))
            listener.listen()
        blocked, free = closed.getsockname()[1], opened.getsockname()[1]
        with Firewall(wire.pair, f"drop primary tcp from any to {wire.right.address} port {blocked}") as firewall:
            with wire.left.socket(socket.SOCK_STREAM) as out:
                out.connect(towards(wire.left, wire.right, free))
            with wire.left.socket(socket.SOCK_STREAM) as out:
                out.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    out.connect(towards(wire.left, wire.right, blocked))
            assert firewall.counters[firewall.rules[0]].packets > 0
            firewall.replace([])
            with wire.left.socket(socket.SOCK_STREAM) as out:
                out.connect(towards(wire.left, wire.right, blocked))
    assert wire.pair.programs("primary").programs == ()


def test_connections_pass_through_rules_of_both_sides(wire: Wire) -> None:
    rules = "pass proto { tcp, udp }\npass icmp\npass icmp6\npass arp\n"
    with Firewall(wire.pair, rules, default="drop") as firewall:
        assert ping(wire.left, wire.right, [56, 1400]) == 2
        send_datagrams(wire.right, wire.left, [100, 1000])
        connect_and_send(wire.left, wire.right, 1_000_000)
        assert firewall.counters[firewall.rules[0]].bytes > 1_000_000


def test_packets_and_bytes_are_counted_by_rule_and_kept_over_a_replacement(wire4: Wire) -> None:
    first, second, third = "pass primary udp", "pass primary tcp", "drop primary icmp"
    with Firewall(wire4.pair, [first, second], sides=["primary"]) as firewall:
        send_datagrams(wire4.left, wire4.right, [100, 200])
        assert firewall.counters[Rule.parse(first)] == RuleCount(2, 300 + 2 * 42)
        assert firewall.counters[Rule.parse(second)] == RuleCount(0, 0)
        firewall.replace([third, second, first])
        send_datagrams(wire4.left, wire4.right, [1])
        counters = firewall.counters
        assert counters[Rule.parse(first)] == RuleCount(3, 301 + 3 * 42)
        assert np.asarray(counters)["packets"].tolist() == [0, 0, 3]
        firewall.replace([third])
        firewall.replace([first])
        assert firewall.counters[Rule.parse(first)] == RuleCount(0, 0)
        send_datagrams(wire4.left, wire4.right, [1])
    assert firewall.counters[Rule.parse(first)] == RuleCount(1, 43)
    assert firewall.closed


def test_a_set_is_replaced_by_itself(wire4: Wire) -> None:
    rules = Ruleset(["drop icmp to <bad>"], {"bad": []})
    with Firewall(wire4.pair, rules) as firewall:
        assert ping(wire4.left, wire4.right, [56]) == 1
        firewall.replace_set("bad", [ip_network("10.42.0.0/24"), "fd00::/8"])
        assert ping(wire4.left, wire4.right, [56], timeout=0.3) == 0
        assert firewall.counters[rules[0]].packets == 1
        firewall.replace_set("bad", [])
        assert ping(wire4.left, wire4.right, [56]) == 1
        assert firewall.counters[rules[0]].packets == 1
        with pytest.raises(KeyError):
            firewall.replace_set("good", [])


def test_a_monitor_behind_sees_what_the_firewall_passes(wire4: Wire) -> None:
    with Monitor(wire4.pair) as monitor, Firewall(wire4.pair, "drop icmp") as firewall:
        send_datagrams(wire4.left, wire4.right, [100])
        assert ping(wire4.left, wire4.right, [56], timeout=0.3) == 0
        events = collect(monitor)
        assert [event.protocol for event in events if event.family == 4] == [UDP]
        assert firewall.counters[firewall.rules[0]].packets == 1


def test_an_explanation_names_the_rule(wire4: Wire) -> None:
    text = "# one\ndrop peer udp from any to any port 53\npass primary udp\n"
    with Monitor(wire4.pair) as monitor, Firewall(wire4.pair, text) as firewall:
        frame = ipv4(UDP, udp(dst_port=53))
        assert firewall.explain(frame, "peer") == Explanation(Verdict.DROP, 0, firewall.rules[0])
        assert str(firewall.explain(frame, "peer")) == "drop: line 2: drop peer udp from any to any port 53"
        assert firewall.explain(frame, Side.PRIMARY) == Explanation(Verdict.NEXT, 1, firewall.rules[1])
        assert str(firewall.explain(ipv4(6, bytes(20)), "peer")) == "next: no rule matches"
        assert sum(count.packets for count in firewall.counters.values()) == 0
        send_datagrams(wire4.left, wire4.right, [100])
        event = next(event for event in collect(monitor) if event.family == 4)
        assert isinstance(event, PacketEvent)
        assert firewall.explain(event).number == 1
        with pytest.raises(ValueError, match="side is missing"):
            firewall.explain(frame)
        with pytest.raises(ValueError, match="an event tells its side"):
            firewall.explain(event, "peer")
    with Firewall(wire4.pair, text, sides=["peer"]) as one_sided:
        assert one_sided.explain(frame, "peer").number == 0
        for each in (frame, "udp from 10.0.0.1 port 1 to 10.0.0.2 port 53"):
            with pytest.raises(ValueError, match="on the peer alone: it judges no packet of the primary"):
                one_sided.explain(each, "primary")
    with pytest.raises(ValueError, match="the firewall is closed"):
        firewall.explain(frame, "peer")
    with pytest.raises(ValueError, match="the firewall is closed"):
        firewall.replace([])


def test_rules_that_never_decide_are_warned_of_and_rules_that_are_none_change_nothing(wire4: Wire) -> None:
    never = r"line 2 \(drop tcp\) never decides: line 1 \(pass\)"
    with pytest.warns(UserWarning, match=never) as made:
        firewall = Firewall(wire4.pair, "pass\ndrop tcp")
    with pytest.warns(UserWarning, match=never) as replaced:
        firewall.replace("pass\ndrop tcp")
    assert [each.filename for each in (*made, *replaced)] == [__file__, __file__]
    with firewall:
        before = wire4.pair.programs("peer")
        with pytest.raises(ValueError, match="line 1, column 1"):
            firewall.replace("pas")
        with pytest.raises(ValueError, match="sides must"):
            Firewall(wire4.pair, sides=["peer", "peer"])
        with pytest.raises(ValueError, match="default must be"):
            Firewall(wire4.pair, default="next")
        assert wire4.pair.programs("peer") == before
        assert len(firewall.rules) == 2


def test_too_many_rules_for_the_tables_are_refused_and_the_old_ones_stay(wire4: Wire) -> None:
    """Each rule has a network of its own, and so a row of a bit for each rule."""
    many = Ruleset.parse("\n".join(f"drop from 10.{n >> 8 & 255}.{n & 255}.{n >> 16}" for n in range(200_000)))
    with Firewall(wire4.pair, "pass") as firewall:
        with pytest.raises(ValueError, match="the ruleset is too large: 200000 rules would take more than 256 MiB of"):
            firewall.replace(many)
        assert len(firewall.rules) == 1
        assert ping(wire4.left, wire4.right, [56]) == 1


def test_a_replacement_that_finds_no_room_at_its_end_changes_nothing(
    wire4: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> Map:
        raise OSError(errno.ENOMEM, "no room")

    with Firewall(wire4.pair, "drop icmp") as firewall:
        with monkeypatch.context() as patch:
            patch.setattr(Map, "create", refuse)
            with pytest.raises(OSError, match="no room"):
                firewall.replace("pass icmp")
        assert str(firewall.rules) == "drop icmp"
        assert ping(wire4.left, wire4.right, [56], timeout=0.2) == 0
        assert firewall.counters[Rule.parse("drop icmp")].packets == 1
        firewall.replace("pass icmp")
        assert ping(wire4.left, wire4.right, [56]) == 1


def test_after_a_replacement_that_was_interrupted_no_packet_goes_back_two(
    wire4: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the instant when third rules come in force, the second ones no longer lead to the first."""
    with Firewall(wire4.pair, "drop icmp") as firewall:
        waits: list[Callable[[], None]] = []
        monkeypatch.setattr(firewall_module, "waiting_for_programs", lambda: nullcontext(lambda: waits.pop()()))

        def interrupt() -> None:
            raise KeyboardInterrupt

        waits.append(interrupt)
        with pytest.raises(KeyboardInterrupt):
            firewall.replace("pass icmp")
        assert str(firewall.rules) == "pass icmp"
        leads_to = firewall._loaded.object.maps["before"]
        found = [len(leads_to)]
        waits.append(lambda: found.append(len(leads_to)))
        firewall.replace("drop udp")
        assert found == [2, 0]


@pytest.mark.filterwarnings("ignore:.*never decides")
def test_a_thousand_replacements_never_judge_a_packet_by_a_mixture(wire4: Wire) -> None:
    count, changes = replace_under_traffic(wire4, 1000)
    assert changes == 500, f"1,000 replacements under {count} datagrams stopped them {changes} times"


def test_it_follows_policies_on_a_thread_that_ends_with_it_and_keeps_it_from_nothing(wire4: Wire) -> None:
    def followers() -> int:
        # An interrupt within Thread.start() leaves one in Python's list that never runs.
        return sum(thread.name == "netkit-follower" and thread.is_alive() for thread in threading.enumerate())

    with Firewall(wire4.pair, "pass") as firewall:
        assert followers() == 1
    assert followers() == 0
    firewall.close()
    firewall = Firewall(wire4.pair, "pass")
    with firewall._lock:  # as a signal handler may, in the middle of whatever the firewall does
        firewall.close()
    assert followers() == 0
    with pytest.warns(ResourceWarning, match="Firewall of ve0"):
        Firewall(wire4.pair, "pass")
    assert followers() == 0
    assert wire4.pair.programs("primary").programs == ()


def test_a_forked_child_that_closes_it_takes_nothing_off_the_hooks(wire4: Wire) -> None:
    with Firewall(wire4.pair, "drop icmp") as firewall:

        def closed() -> str:
            firewall.close()
            return str(len(wire4.pair.programs("peer").programs))

        with firewall._lock:  # as another thread may hold it, which the child has not
            assert in_child(closed) == "1"
        assert ping(wire4.left, wire4.right, [56], timeout=0.2) == 0
        firewall.replace("pass")
        assert ping(wire4.left, wire4.right, [56]) == 1


def test_where_it_may_not_listen_to_another_namespace_it_is_made_and_that_is_logged(
    wire4: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    def made() -> str:
        with Firewall(wire4.pair, "drop udp") as firewall:
            firewall.check()
        return caplog.text

    log = unprivileged(made, missing=CAP_NET_BROADCAST)
    assert "changes of the policies of ve0 are not followed: [Errno 1] listen to changes of devices" in log
