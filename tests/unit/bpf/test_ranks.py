"""By which names a packet function of this package is known on a hook."""

from __future__ import annotations

import pytest

from netkit_bpf import AttachedProgram, Rank


@pytest.mark.parametrize(
    ("name", "rank"),
    [
        ("firewall_primar", Rank.FIREWALL),  # the kernel keeps 15 bytes of "firewall_primary"
        ("firewall_peer", Rank.FIREWALL),
        ("monitor_peer", Rank.OBSERVER),
        ("metrics_primary", Rank.OBSERVER),
        ("balancer_client", Rank.BALANCER),
        ("balancer_backen", Rank.BALANCER),
        ("firewall_of_oth", None),  # somebody else's, which need not decide anything
        ("balancer_", None),
        ("", None),
        (None, None),
    ],
)
def test_only_the_programs_that_ship_have_a_rank(name: str | None, rank: Rank | None) -> None:
    assert AttachedProgram(1, name, None).rank is rank
