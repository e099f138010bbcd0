# SPDX-License-Identifier: MIT
"""A monitor with a filter: what does not match is no event, costs no record, and passes all the same."""

from __future__ import annotations

import ctypes.util
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from elsewhere import needs_tcx
from netkit_bpf import Filter, Monitor, NetNS
from packets import ipv6, tcp, udp
from traffic import Wire, collect, connect_and_send, ping, send_datagrams
from veth import veth_pair, veth_wire

pytestmark = needs_tcx

TCP, UDP = 6, 17
ECHO_REQUEST = 128


@pytest.fixture
def wire() -> Iterator[Wire]:
    with veth_wire(6) as made:
        yield made


def test_only_what_matches_is_an_event_and_everything_passes(wire: Wire) -> None:
    with Monitor(wire.pair, filter="udp or icmp6[icmp6type] = icmp6-echo") as monitor:
        assert ping(wire.left, wire.right, [0, 56]) == 2
        ports = send_datagrams(wire.right, wire.left, [1, 100, 1400])
        connect_and_send(wire.left, wire.right, 1000)
        events = collect(monitor)
        primary, peer = monitor.stats
        kept_out = monitor.filtered
    assert [event.icmp_type for event in events if event.protocol == 58] == [ECHO_REQUEST] * 2
    datagrams = [event for event in events if event.protocol == UDP]
    assert [(event.src_port, event.dst_port) for event in datagrams] == [ports] * 3
    assert len(events) == 5
    assert (primary.seen, peer.seen) == (2, 3)
    assert kept_out.primary >= 4  # the connection's, one way
    assert kept_out.peer >= 5  # and two echo replies


def test_the_monitor_says_how_many_were_filtered_even_after_close(wire: Wire) -> None:
    with Monitor(wire.pair, sides=["primary"], filter="udp and less 100") as monitor:
        assert "(primary) filter='udp and less 100' open>" in repr(monitor)
        send_datagrams(wire.left, wire.right, [1, 1000, 1000, 2])
        assert len(collect(monitor)) == 2
        quiet = monitor.filtered
    assert quiet.primary >= 2
    assert monitor.filtered.primary >= quiet.primary
    assert monitor.filtered.peer == 0
    assert monitor.stats.primary.seen == 2


def test_an_unfiltered_monitor_beside_it_sees_everything(wire: Wire) -> None:
    with Monitor(wire.pair, filter="tcp") as some, Monitor(wire.pair) as every:
        send_datagrams(wire.left, wire.right, [7] * 10)
        assert sum(event.protocol == UDP for event in collect(every)) == 10
        assert collect(some) == []
        assert every.filtered == (0, 0)


def test_each_of_several_pairs_is_filtered() -> None:
    with NetNS.create() as here, NetNS.create() as there, NetNS.create() as elsewhere, NetNS.create() as yonder:
        with veth_pair(here, there) as first, veth_pair(elsewhere, yonder) as second:
            with Monitor(first, second, sides=["primary"], filter=Filter("udp port 53")) as monitor:
                for netns in (here, elsewhere):
                    with netns.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
                        raw.bind(("ve0", 0))
                        for frame in (ipv6(UDP, udp(1, 53)), ipv6(TCP, tcp())):
                            raw.send(frame)
                events = collect(monitor)
                assert monitor.filtered.primary >= 2
            assert [(event.pair_name, event.dst_port) for event in events] == [("ve0", 53), ("ve0", 53)]


def test_headers_beyond_the_linear_part_are_matched_all_the_same(wire: Wire) -> None:
    """Of a frame of more than a page, af_packet(7) puts only the Ethernet header into the linear part."""
    for end, device in ((wire.left, "ve0"), (wire.right, "ve1")):
        end.netns.run(["ip", "link", "set", device, "mtu", "9000"], check=True)
    size = 5000
    frames = [ipv6(UDP, udp(1, port)).ljust(size, b"\xa5") for port in range(50, 60)]
    with (
        Monitor(wire.pair, sides=["primary"], filter="udp port 53 or udp port 57 and ether[4999] = 0xa5") as monitor,
        wire.left.netns.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw,
    ):
        raw.bind(("ve0", 0))
        for frame in frames:
            raw.send(frame)
        assert [event.dst_port for event in collect(monitor)] == [53, 57]


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("tcp prt 80", ValueError, "filter 'tcp prt 80': can't parse filter expression: syntax error at 'prt'"),
        ("udp\0", ValueError, "filter must not contain a null character"),
        (b"udp", TypeError, "filter must be a str, not bytes"),
        (5, TypeError, "filter must be a str, not int"),
    ],
)
def test_a_bad_filter_is_refused_before_anything_is_touched(
    wire: Wire, value: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        Monitor(wire.pair, filter=value)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_a_filter_too_long_leaves_nothing_attached(wire: Wire) -> None:
    with pytest.raises(ValueError, match="too long"):
        Monitor(
            wire.pair, filter=" or ".join(f"ether[len - {at}] * ether[len - {at + 1}] = 1" for at in range(1, 1500))
        )


@pytest.mark.needs("libpcap")
def test_without_libpcap_only_filters_are_missing(wire: Wire) -> None:
    """In a mount namespace that hides it."""
    name = ctypes.util.find_library("pcap")
    assert name is not None
    program = (
        "import netkit_bpf as nk\n"
        f"device = nk.Device({wire.pair.primary.ifindex}, 've0', nk.NetNS.current())\n"
        "pair = nk.NetkitPair(device, device, owned=False)\n"
        "nk.Monitor(pair).close()\n"
        "try: nk.Monitor(pair, filter='udp')\n"
        "except FileNotFoundError as error: print(error)\n"
    )
    hide = (
        f"for library in $(ldconfig -p | sed -n 's/.*libpcap.* => //p'); do mount --bind /dev/null $library; done;"
        f' exec {sys.executable} -c "$1"'
    )
    done = wire.left.netns.run(
        ["unshare", "--mount", "sh", "-c", hide, "sh", program], stdout=subprocess.PIPE, text=True, check=True
    )
    assert "load libpcap" in done.stdout
    assert "install the package libpcap" in done.stdout
