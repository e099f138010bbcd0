# SPDX-License-Identifier: MIT
"""Whether a device is the one that it was: the kernel goes by a number, which can be given to another device.

Numbers are given out in turn, so that takes somebody who asks for that very number, or a device that comes from another
namespace and brings its own (net/core/dev.c: dev_index_reserve, __dev_change_net_namespace). The kernel has nothing
that names a device for ever. So what never changes of one is compared: its kind, what is fixed when a netkit device is
made, and the other end of a pair, whose number changes only where that end is moved; then the alias must be the same.
Of two pairs that were made alike and got the same numbers it cannot be told which is which; nor is a number kept from
another device between the look and the act.
"""

from __future__ import annotations

from netkit_bpf._core import DeviceInfo

_PAIRED = {"netkit", "veth"}  # of others IFLA_LINK can be changed: ip-tunnel(8)


class Identity:
    """What a device was when it was last read. Any thread may use it."""

    def __init__(self) -> None:
        self._fixed: tuple[object, ...] | None = None
        self._other_end: tuple[int, int | None] | None = None  # number, and number of its namespace
        self._alias = ""

    def is_of(self, info: DeviceInfo) -> bool:
        """Whether this can be the same device; the first time it is, and what may change is learned then."""
        queues = info.number("num_tx_queues"), info.number("num_rx_queues")
        # Not head- and tailroom: a bridge or a tunnel on top raises them (netkit_set_headroom).
        fixed = (info.kind, info.primary, info.mode, info.scrub, info.peer_scrub, queues)
        if self._fixed not in (None, fixed) or (info.kind in _PAIRED and self._has_another_end(info)):
            return False
        self._fixed, self._other_end, self._alias = fixed, (info.link, info.link_netnsid), info.alias
        return True

    def _has_another_end(self, info: DeviceInfo) -> bool:
        known = self._other_end
        if known is None or known == (info.link, info.link_netnsid):
            return False
        # Somebody moved the other end, unless it is in its place under another number, or the alias changed too.
        return known[1] == info.link_netnsid or self._alias != info.alias

    def forget_other_end(self) -> None:
        """One of the ends is moved by this package, and may get another number."""
        self._other_end = None
