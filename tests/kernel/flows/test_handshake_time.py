# SPDX-License-Identifier: MIT
"""The time of a handshake beside what the client's own kernel measured of it: tcp_info.tcpi_rtt, as ss -ti shows."""

from __future__ import annotations

import socket
import struct
from statistics import median

import pytest

from balancing import no_offload
from elsewhere import needs_tcx
from netkit_bpf import FlowMetrics, NetNS
from relay import relay
from traffic import End, ping
from veth import quiet_pair, veth_pair

pytestmark = needs_tcx

RTT = 68  # where tcpi_rtt is, linux/tcp.h
TIMES = 7
TOLERANCE = 0.001  # seconds, of the median: the hooks are a few microseconds from the sockets


@pytest.mark.parametrize("delay", [0.0, 0.005, 0.05], ids=lambda delay: f"{delay * 1000:g} ms each way")
def test_it_is_the_round_trip_that_the_client_measured(delay: float) -> None:
    with NetNS.create() as far, quiet_pair() as pair, veth_pair(pair.peer.netns, far, "wx") as behind:
        client, server = End(pair.primary.netns, "10.42.0.1"), End(far, "10.42.0.2")
        for device, end in ((pair.primary, client), (behind.peer, server)):
            no_offload(device)
            device.add_address(f"{end.address}/24")
        with relay(pair.peer, behind.primary, delay), FlowMetrics(pair, slots=64) as metrics:
            ping(client, server, [0])  # a SYN must not wait for a MAC address
            measured = dict(connect(client, server) for _ in range(TIMES))
            flows = [flow for flow in metrics.snapshot() if flow.src_port in measured]
    assert len(flows) == TIMES
    differences = []
    for flow in flows:
        assert flow.handshake_ns is not None
        assert flow.src_port is not None
        counted, rtt = flow.handshake_ns / 1e9, measured[flow.src_port]
        assert min(counted, rtt) >= 2 * delay
        differences.append(abs(counted - rtt))
    assert median(differences) < TOLERANCE


def connect(client: End, server: End) -> tuple[int, float]:
    """Open a connection; returns the client's port and the round trip that its kernel measured, in seconds."""
    with server.socket(socket.SOCK_STREAM) as listener, client.socket(socket.SOCK_STREAM) as out:
        listener.bind(server.name(0))
        listener.listen()
        out.connect(listener.getsockname())
        (rtt,) = struct.unpack_from("=I", out.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, RTT + 4), RTT)
        return out.getsockname()[1], rtt / 1e6
