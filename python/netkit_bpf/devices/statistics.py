# SPDX-License-Identifier: MIT
"""The counters of a device: struct rtnl_link_stats64 of linux/if_link.h."""

from __future__ import annotations

from typing import NamedTuple


class Statistics(NamedTuple):
    """The counters of a device since it was made, by the kernel's names.

    Packets that a netkit device drops (verdict, blackhole, other end down) count in its own tx_dropped.
    """

    rx_packets: int
    tx_packets: int
    rx_bytes: int
    tx_bytes: int
    rx_errors: int
    tx_errors: int
    rx_dropped: int
    tx_dropped: int
    multicast: int
    collisions: int
    rx_length_errors: int
    rx_over_errors: int
    rx_crc_errors: int
    rx_frame_errors: int
    rx_fifo_errors: int
    rx_missed_errors: int
    tx_aborted_errors: int
    tx_carrier_errors: int
    tx_fifo_errors: int
    tx_heartbeat_errors: int
    tx_window_errors: int
    rx_compressed: int
    tx_compressed: int
    rx_nohandler: int
    rx_otherhost_dropped: int
