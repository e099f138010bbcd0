"""What bpf_redirect_peer() delivers past a pair's own hook, on a veth pair."""

from __future__ import annotations

from typing import Any

import pytest

from elsewhere import needs_tcx
from netkit_bpf import Monitor, NetNS
from redirecting import each_packet_is_seen_once
from veth import veth_pair

pytestmark = needs_tcx


def test_each_packet_is_seen_once() -> None:
    each_packet_is_seen_once(veth_pair)


@pytest.mark.parametrize("redirected", [1, None, "yes"])
def test_it_is_asked_for_by_true_or_false(redirected: Any) -> None:
    with NetNS.create() as here, NetNS.create() as there, veth_pair(here, there) as pair:
        with pytest.raises(TypeError, match="redirected must be a bool"):
            Monitor(pair, redirected=redirected)
