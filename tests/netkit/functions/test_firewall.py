# SPDX-License-Identifier: MIT
"""The firewall on netkit pairs: real connections, policies, and what is behind it."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from examples import example
from forked import Forked
from netkit_bpf import Firewall, Monitor, NetkitPair, NetNS, Observer, Side, Verdict
from packets import ipv6, udp
from programs import OBSERVER, VERDICTS, load
from replacing import replace_under_traffic
from traffic import End, Wire, collect, connect_and_send, ping, send_datagrams, towards

SHORT = 0.3  # to wait for a reply that must not come
PATIENCE = 20.0  # seconds: far longer than anything takes
ADDRESSES = {4: ("10.42.0.1", "10.42.0.2", 24), 6: ("fd00::1", "fd00::2", 64)}


@pytest.fixture(params=[("l2", 4), ("l2", 6), ("l3", 4), ("l3", 6)], ids=lambda value: f"{value[0]}-ipv{value[1]}")
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    mode, version = request.param
    yield from pair_of(mode, version)


@pytest.fixture
def plain() -> Iterator[Wire]:
    yield from pair_of("l3", 6)


def pair_of(mode: str, version: int) -> Iterator[Wire]:
    left, right, length = ADDRESSES[version]
    with NetNS.create() as here, NetNS.create() as there:
        with NetkitPair.create("nk0", mode=mode, netns=here, peer_netns=there) as pair:
            pair.primary.add_address(f"{left}/{length}")
            pair.peer.add_address(f"{right}/{length}")
            yield Wire(pair, End(here, left), End(there, right))


def test_real_connections_pass_and_are_dropped_as_the_rules_say(wire: Wire) -> None:
    with wire.right.socket(socket.SOCK_STREAM) as listener:
        listener.bind(wire.right.name(0))
        listener.listen()
        port = listener.getsockname()[1]
        rules = f"""
            drop primary tcp from any to {wire.right.address} port {port} flags S/SA
            pass proto {{ tcp, udp }}
            pass icmp
            pass icmp6
            pass arp
        """
        with Firewall(wire.pair, rules, default="drop") as firewall:
            connect_and_send(wire.left, wire.right, 300_000)
            connect_and_send(wire.right, wire.left, 300_000)
            send_datagrams(wire.left, wire.right, [10, 1000])
            assert ping(wire.left, wire.right, [56]) == 1
            with wire.left.socket(socket.SOCK_STREAM) as out:
                out.settimeout(SHORT)
                with pytest.raises(TimeoutError):
                    out.connect(towards(wire.left, wire.right, port))
            counters = list(firewall.counters.values())
            assert counters[0].packets >= 1
            assert counters[1].bytes > 600_000
        with wire.left.socket(socket.SOCK_STREAM) as out:
            out.connect(towards(wire.left, wire.right, port))


@pytest.mark.filterwarnings("ignore:.*never decides")
def test_replacements_never_judge_a_packet_by_a_mixture(plain: Wire) -> None:
    count, changes = replace_under_traffic(plain, 100)
    assert changes == 50, f"100 replacements under {count} datagrams stopped them {changes} times"


def test_events_name_the_rule_of_each_packet(wire: Wire) -> None:
    with Firewall(wire.pair, "drop peer log udp\npass primary log udp") as firewall:
        send_datagrams(wire.left, wire.right, [100])
        firewall.replace("pass peer log udp\npass primary udp")
        send_datagrams(wire.right, wire.left, [200])
        events = list(firewall.events(timeout=0))
    assert [(event.number, event.packet.side, event.packet.src) for event in events] == [
        (1, Side.PRIMARY, wire.left.ip),
        (0, Side.PEER, wire.right.ip),
    ]
    assert [str(event.rule) for event in events] == ["pass primary log udp", "pass peer log udp"]


def test_rules_pass_on_a_blackhole_and_it_is_shut_without_them(plain: Wire) -> None:
    for side in Side:
        plain.pair.set_policy("blackhole", side=side)
    assert ping(plain.left, plain.right, [56], timeout=SHORT) == 0
    with Firewall(plain.pair, "pass icmp6") as firewall:
        assert ping(plain.left, plain.right, [56]) == 1
        with pytest.raises(TimeoutError):
            short_datagram(plain)  # no rule matches: it is left to the policy
        firewall.replace("pass udp\npass icmp6")
        short_datagram(plain)
        with load(VERDICTS) as verdicts, plain.pair.attach(verdicts.programs["first"], "primary"):
            firewall.replace("pass icmp6")
            with pytest.raises(TimeoutError):
                short_datagram(plain)  # whatever is behind
            assert ping(plain.left, plain.right, [56]) == 1
            for side in Side:
                plain.pair.set_policy("forward", side=side)
            wait_until_left_to(firewall, Verdict.NEXT, "primary")
            short_datagram(plain)  # left to the program behind, which leaves it to nobody
        for side in Side:
            plain.pair.set_policy("blackhole", side=side)
        wait_until_left_to(firewall, Verdict.DROP, "primary")
        wait_until_left_to(firewall, Verdict.DROP, "peer")
        assert str(firewall.explain(ipv6(17, udp()), "peer")) == "drop: no rule matches"
        with pytest.raises(TimeoutError):
            short_datagram(plain)
    assert ping(plain.left, plain.right, [56], timeout=SHORT) == 0


def test_changes_of_the_policies_by_another_process_are_followed_by_whoever_has_it_open(
    plain: Wire, tmp_path: Path
) -> None:
    def set_elsewhere(policy: str, side: str) -> None:
        with Forked(lambda: NetkitPair.open("nk0", plain.left.netns).set_policy(policy, side=side)):
            pass

    path = Path("/sys/fs/bpf") / tmp_path.name
    with Firewall(plain.pair, "pass icmp6") as firewall:
        set_elsewhere("blackhole", "peer")
        wait_until_left_to(firewall, Verdict.DROP, "peer")
        assert firewall.explain(ipv6(17, udp()), "primary").verdict is Verdict.NEXT
        firewall.replace("pass icmp6", default="drop")
        firewall.replace("pass icmp6", default="pass")
        set_elsewhere("forward", "peer")
        wait_until_left_to(firewall, Verdict.NEXT, "peer")
        short_datagram(plain)
        firewall.pin(path)
    set_elsewhere("blackhole", "primary")
    with Firewall.open_pinned(plain.pair, path) as opened:  # nobody had it open meanwhile
        assert opened.explain(ipv6(17, udp()), "primary").verdict is Verdict.DROP
        with pytest.raises(TimeoutError):
            short_datagram(plain)
        set_elsewhere("forward", "primary")
        wait_until_left_to(opened, Verdict.NEXT, "primary")
        short_datagram(plain)
        opened.unpin()


def test_a_change_of_a_policy_that_could_not_be_followed_is_tried_again(
    plain: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[OSError] = []
    set_verdicts = Firewall._set_verdicts

    def fail_once(firewall: Firewall) -> None:
        if failures:
            raise failures.pop()
        set_verdicts(firewall)

    monkeypatch.setattr(Firewall, "_set_verdicts", fail_once)
    with Firewall(plain.pair, "pass icmp6") as firewall:
        failures.append(OSError(errno.ENOMEM, "no memory"))
        plain.pair.set_policy("blackhole", side="peer")
        wait_until_left_to(firewall, Verdict.DROP, "peer")
    assert "a change of a policy of nk0 is not followed yet: [Errno 12] no memory" in caplog.text


def test_a_blackhole_is_shut_when_the_process_is_killed(plain: Wire) -> None:
    for side in Side:
        plain.pair.set_policy("blackhole", side=side)

    with Forked(lambda: Firewall(plain.pair, "pass")):
        assert ping(plain.left, plain.right, [56]) == 1
    assert ping(plain.left, plain.right, [56], timeout=SHORT) == 0


@pytest.mark.parametrize("closing", ["first", "last"])
@pytest.mark.parametrize("order", [("firewall", "monitor"), ("monitor", "firewall")], ids="-".join)
def test_a_blackhole_stays_one_with_a_monitor_and_a_firewall_that_come_and_go_in_any_order(
    plain: Wire, order: tuple[str, str], closing: str
) -> None:
    for side in Side:
        plain.pair.set_policy("blackhole", side=side)
    with ExitStack() as made:
        if order[0] == "firewall":
            firewall = made.enter_context(Firewall(plain.pair, "pass icmp6"))
        monitor = made.enter_context(Monitor(plain.pair))
        if order[0] == "monitor":
            firewall = made.enter_context(Firewall(plain.pair, "pass icmp6"))
        for side in Side:
            behind = f"monitor_{side}"[:15]
            assert [each.name for each in plain.pair.programs(side).programs] == [f"firewall_{side}"[:15], behind]
        for observer in monitor.observers:
            observer.check()
        assert ping(plain.left, plain.right, [56]) == 1
        with pytest.raises(TimeoutError):
            short_datagram(plain)
        assert {event.protocol for event in collect(monitor)} == {58}  # what was dropped never came by

        gone = order[0] if closing == "first" else order[1]
        if gone == "monitor":
            monitor.close()
        else:
            firewall.close()
            for observer in monitor.observers:
                observer.check()
        assert ping(plain.left, plain.right, [56], timeout=SHORT) == (gone == "monitor")
        with pytest.raises(TimeoutError):
            short_datagram(plain)
    assert ping(plain.left, plain.right, [56], timeout=SHORT) == 0


def test_observers_before_a_balancer_leave_a_blackhole_to_it_with_and_without_a_firewall(plain: Wire) -> None:
    for side in Side:
        plain.pair.set_policy("blackhole", side=side)
    with load(OBSERVER) as obj:
        last = {"primary": obj.programs["of_primary"], "peer": obj.programs["of_peer"]}
        with Monitor(plain.pair) as monitor:
            with Observer(plain.pair, last, verdict=obj.variables["verdict"], rank="balancer") as balancer:
                assert obj.variables["verdict"].value == (2, 2)
                for observer in monitor.observers:
                    observer.check()
                assert ping(plain.left, plain.right, [56], timeout=SHORT) == 0
                assert obj.variables["counts"].value[0] >= 1  # it came by the monitor
                with Firewall(plain.pair, "pass icmp6"):
                    balancer.check()
                    assert obj.variables["verdict"].value == (-1, -1)
                    assert ping(plain.left, plain.right, [56]) == 1
                    with pytest.raises(TimeoutError):
                        short_datagram(plain)
                balancer.check()
                assert ping(plain.left, plain.right, [56], timeout=SHORT) == 0


def test_a_monitor_that_is_opened_notices_a_firewall_that_goes(plain: Wire) -> None:
    for side in Side:
        plain.pair.set_policy("blackhole", side=side)
    with Monitor(plain.pair) as monitor:
        with Forked(lambda: Firewall(plain.pair, "pass")):
            while ping(plain.left, plain.right, [56], timeout=SHORT) == 0:
                pass  # the monitor is last until it has looked
        while ping(plain.left, plain.right, [56], timeout=SHORT) == 1:
            pass
        assert ping(plain.left, plain.right, [56], timeout=SHORT) == 0
        assert all(each.lost == 0 for each in monitor.stats)


def test_a_monitor_that_came_first_is_behind(plain: Wire) -> None:
    with Monitor(plain.pair) as monitor, Firewall(plain.pair, "drop icmp6 to fd00::2"):
        send_datagrams(plain.left, plain.right, [100])
        assert ping(plain.left, plain.right, [56], timeout=SHORT) == 0
        assert [event.protocol for event in collect(monitor) if event.dst == plain.right.ip] == [17]


def test_the_example_blocks_a_service_and_then_none(capsys: pytest.CaptureFixture[str]) -> None:
    with NetNS.create() as host:
        host.call(example("firewall").main)
    first, *counted, last = capsys.readouterr().out.splitlines()
    assert first == "{12345: False, 12346: True}"
    assert last == "{12345: True, 12346: True}"
    assert [int(line.split()[0]) > 0 for line in counted] == [False, True]


def wait_until_left_to(firewall: Firewall, verdict: Verdict, side: str) -> None:
    """Until it says this of a packet that no rule matches."""
    deadline = time.monotonic() + PATIENCE
    while firewall.explain(ipv6(17, udp()), side).verdict is not verdict:
        assert time.monotonic() < deadline, f"the policy of the {side} is not followed"
        time.sleep(0.01)


def short_datagram(wire: Wire) -> None:
    with wire.left.socket(socket.SOCK_DGRAM) as out, wire.right.socket(socket.SOCK_DGRAM) as into:
        into.bind(wire.right.name(0))
        into.settimeout(SHORT)
        try:
            out.sendto(b"x", towards(wire.left, wire.right, into.getsockname()[1]))
        except OSError as error:  # the sender is told of a drop at its own hook
            raise TimeoutError from error
        into.recv(16)
