"""What a notebook shows of pairs, labs and what is on them; and the magics where there are pairs."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest

import netkit_bpf as nk
from ipython_shell import Shell, ipython_shell


@pytest.fixture
def lab() -> Iterator[nk.Lab]:
    with nk.Lab(nodes=2) as made:
        yield made


@pytest.fixture
def shell() -> Iterator[Shell]:
    with ipython_shell() as made:
        yield made


def shown(noun: object) -> str:
    """The HTML as text: cells apart by a blank."""
    html = noun._repr_html_()  # type: ignore[attr-defined]
    assert html is not None
    assert "<script" not in html
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]*>", " ", html, flags=re.DOTALL).split())


def test_everything_on_a_lab_shows_itself(lab: nk.Lab) -> None:
    one, two = lab.nodes
    rules = 'pass icmp6\ndrop udp to any port 9 label "<b>discard</b>"'
    with (
        nk.Monitor(one.pair) as monitor,
        nk.Firewall(one.pair, rules, default="drop") as firewall,
        nk.FlowMetrics(one.pair) as metrics,
        one.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender,
    ):
        for port in (9, 9, 10):
            sender.sendto(bytes(100), (two.address, port))
        drawn = shown(lab)
        for words in ("n1: firewall_primar", "metrics_peer, monitor_peer", "fd42:0:0:2::2/64", "10.42.1.2/24", "hub"):
            assert words in drawn
        assert "fd42:0:0:1::1/64" in shown(one.pair)
        assert "policy forward, of the peer forward" in shown(one.pair)
        assert "kind netkit up yes mtu 1500" in shown(two.pair.primary)
        assert re.search(r"1 firewall_peer firewall \d+ \d+ 2 metrics_peer observer", shown(one.pair.hook("peer")))
        counted = shown(firewall)
        assert "drop udp from any to any port 9 label &quot;&lt;b&gt;discard&lt;/b&gt;&quot; 2 324 0" in counted
        assert "no rule matched 1 162 0" in counted
        assert "1 pass icmp6" in shown(firewall.rules)
        # What the hub sends by itself, a report of multicast groups, may come by.
        assert re.search(r"side seen delivered lost pending primary (\d) 0 0 \1 peer 0 0 0 0", shown(monitor))
        assert shown(metrics).startswith("FlowTable 0 flows")  # the firewall is in front
    with nk.LoadBalancer(one.pair, "fd42:0:0:99::1", 80, backends=[two.pair]) as balancer:
        assert "n2 fd42:0:0:2::2 80 active 1 100.0% 0 0 0 0" in shown(balancer)


def test_what_is_gone_is_shown_as_text() -> None:
    with nk.NetkitPair.create("nk0") as pair:
        hook = pair.hook("peer")
    assert pair._repr_html_() is None
    assert pair.primary._repr_html_() is None
    assert hook._repr_html_() is None


def test_a_cell_attaches_to_a_pair_and_swaps_on_it(shell: Shell, lab: nk.Lab) -> None:
    source = (
        '%%bpf {name} --attach pair:peer\n#include <netkit.h>\nSEC("netkit/peer") int judge(struct __sk_buff *skb)\n'
        "{{ return {verdict}; }}\n"
    )
    one, two = lab.nodes
    shell.names["pair"] = one.pair
    ping = ["ping", "-q", "-c1", "-W1", two.address]
    assert shell.run(source.format(name="judge", verdict="NETKIT_DROP")) == ""
    link = shell.names["judge"].links["pair:peer"]
    assert one.run(ping, capture_output=True).returncode == 1
    assert "error: use of undeclared identifier" in shell.run(source.format(name="judge", verdict="NOTHING"))
    assert one.run(ping, capture_output=True).returncode == 1  # it is still dropped
    assert shell.run(source.format(name="judge", verdict="NETKIT_NEXT")) == ""
    assert shell.names["judge"].links["pair:peer"] is link
    assert one.run(ping, capture_output=True).returncode == 0
    shell.names["judge"].close()


def test_netkit_lists_pairs_and_watches_one(shell: Shell) -> None:
    with nk.NetkitPair.create("nk0") as pair:
        pair.primary.add_address("fd00::1/64")
        assert "[<NetkitPair nk0, nk0p in " in shell.run("%netkit pairs")
        shell.names["held"] = pair
        said = shell.run("batch = %netkit monitor held --seconds 0.2")
        assert said.startswith("primary: seen="), said
        assert isinstance(shell.names["batch"], nk.EventBatch)
