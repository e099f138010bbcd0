"""What bpf_redirect_peer() delivers past the primary's hook, as Cilium's host routing does."""

from __future__ import annotations

import pytest

from netkit_bpf import Monitor
from pairs import makes
from redirecting import RECEIVER, SENDER, each_packet_is_seen_once, scene, seen
from traffic import send_datagrams


@pytest.mark.parametrize("mode", ["l2", "l3"])
def test_each_packet_is_seen_once(mode: str) -> None:
    each_packet_is_seen_once(makes(mode))


def test_a_blackhole_stays_one_and_what_is_redirected_past_it_is_seen() -> None:
    with scene(makes("l3")) as made:
        made.pair.set_policy("blackhole")
        with Monitor(made.pair, redirected=True) as monitor:
            assert made.pair.programs("primary").programs == ()  # so the kernel itself applies the policy
            send_datagrams(made.sender, made.receiver, [10] * 5)
            send_datagrams(made.receiver, made.host, [10])
            assert seen(monitor) == {("primary", SENDER): 5, ("peer", RECEIVER): 1}
