# SPDX-License-Identifier: MIT
"""Whether a device is still the same: the kernel identifies it by a number, which can be given to another device.

Numbers are given out in turn, so this happens only if a process asks for that number, or if a device that is moved from
another namespace keeps its own (net/core/dev.c: dev_index_reserve, __dev_change_net_namespace). The kernel has no
permanent identifier of a device. So the properties that never change are compared: the kind, the attributes that are
fixed when a netkit device is made, and the other end of a pair. The number of the other end changes only if that end is
moved; then the alias must be the same. Of two pairs that were made alike and got the same numbers, the aliases say
whether different processes of this package made them; otherwise they cannot be told apart. Nor can a number be
protected from reuse between this check and the request that follows.
"""

from __future__ import annotations

from netkit_bpf._core import DeviceInfo
from netkit_bpf.devices.owner import Owner

_PAIRED = {"netkit", "veth"}  # other kinds can change IFLA_LINK: ip-tunnel(8)


class Identity:
    """What a device was when it was last read. Any thread may use it."""

    def __init__(self) -> None:
        self._fixed: tuple[object, ...] | None = None
        self._other_end: tuple[int, int | None] | None = None  # number, and number of its namespace
        self._alias = ""

    def is_of(self, info: DeviceInfo) -> bool:
        """Whether this can be the same device, updating what may change; True at the first call."""
        queues = info.number("num_tx_queues"), info.number("num_rx_queues")
        # Headroom and tailroom are left out: a bridge or a tunnel on top raises them (netkit_set_headroom).
        fixed = (info.kind, info.primary, info.mode, info.scrub, info.peer_scrub, queues)
        if self._fixed not in (None, fixed) or self._has_another_maker(info):
            return False
        if info.kind in _PAIRED and self._has_another_end(info):
            return False
        self._fixed, self._other_end, self._alias = fixed, (info.link, info.link_netnsid), info.alias
        return True

    def _has_another_maker(self, info: DeviceInfo) -> bool:
        if self._alias == info.alias:
            return False
        return Owner.of(self._alias) is not None and Owner.of(info.alias) is not None

    def _has_another_end(self, info: DeviceInfo) -> bool:
        known = self._other_end
        if known is None or known == (info.link, info.link_netnsid):
            return False
        # The other end was moved, unless it is in the same place with another number, or the alias changed too.
        return known[1] == info.link_netnsid or self._alias != info.alias

    def forget_other_end(self) -> None:
        """Call this when this package moves one of the ends, because its number may change."""
        self._other_end = None
