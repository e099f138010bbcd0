# SPDX-License-Identifier: MIT
"""Single netkit devices, which have no peer: ip-link(8), drivers/net/netkit.c."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from netkit_bpf._core import Made, device_list, hand_over, single_create
from netkit_bpf._core import PairOptions as CorePairOptions
from netkit_bpf.devices.device import Device, delete_device, find_device, is_left
from netkit_bpf.devices.netns import DELETE_IT, NetNS, expect_netns
from netkit_bpf.devices.pair_options import DeviceOptions, check_pair_options
from netkit_bpf.enums import Mode
from netkit_bpf.internal.resource import Resource

if TYPE_CHECKING:
    from typing_extensions import Unpack


class NetkitDevice(Device, Resource):
    """A netkit device without a peer (Linux 7.1): it drops the packets that are sent over it.

    Its purpose is to lease queues of a physical device. It has no policy, no scrub mode and no netkit hooks. As a
    context manager it is deleted on exit. Any thread may use it.

    >>> with NetkitDevice.create("nk0", num_rx_queues=2) as device:  # doctest: +SKIP
    ...     print(device.num_rx_queues)
    """

    _made: Made | None = None  # until it is deleted

    @classmethod
    def create(
        cls,
        name: str = "nk0",
        *,
        mode: Mode | str = Mode.L3,
        headroom: int | None = None,
        tailroom: int | None = None,
        mtu: int | None = None,
        mac: str | None = None,
        netns: NetNS | None = None,
        up: bool = True,
        **options: Unpack[DeviceOptions],
    ) -> NetkitDevice:
        """Make a single device; arguments and errors are those of `NetkitPair.create`.

        Raises:
            NotSupportedError: the kernel is older than 7.1, which would make a pair.
        """
        checked = check_pair_options(
            name, mode=mode, headroom=headroom, tailroom=tailroom, up=up,
            ends={"mtu": mtu, "mac": mac, **options}, single=True,
        )  # fmt: skip
        netns = expect_netns(netns, "netns")
        return hand_over(cls._create(checked, netns))

    @classmethod
    def _create(cls, options: CorePairOptions, netns: NetNS) -> NetkitDevice:
        info, made = single_create(netns._netlink(), options)
        device = cls._of(info, netns)
        device._made = made
        return device

    @classmethod
    def open(cls, name: str | int, netns: NetNS | None = None) -> NetkitDevice:
        """Open an existing single device by its name or ifindex.

        Raises:
            ValueError: the device is not a netkit device, or is one of a pair.
            OSError: ENODEV, there is no such device.
        """
        netns = expect_netns(netns, "netns")
        info = find_device(name, netns)
        if info.kind != "netkit":
            raise ValueError(f"{info.name} is a {info.kind or 'plain'} device, not a netkit device")
        if info.link != 0:
            raise ValueError(f"{info.name} is an end of a pair: use NetkitPair.open()")
        return cls._of(info, netns)

    @property
    def mode(self) -> Mode:
        """The mode, read from the kernel."""
        return Mode.from_number(self._read().mode)

    @property
    def headroom(self) -> int:
        """Bytes reserved before each packet, read from the kernel."""
        return self._read().headroom or 0

    @property
    def tailroom(self) -> int:
        """Bytes reserved behind each packet, read from the kernel."""
        return self._read().tailroom or 0

    def delete(self) -> None:
        """Delete the device. Idempotent: it is not an error if the device is gone."""
        delete_device(self)
        made, self._made = self._made, None
        if made is not None:
            made.keep()

    def _noun(self) -> str:
        return f"NetkitDevice {self._known_name}" if self._made is not None and is_left(self) else ""

    def _let_go_of(self) -> str:
        return f"was never deleted, and stays: {DELETE_IT}"

    def __enter__(self) -> NetkitDevice:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.delete()


def single_devices(netns: NetNS | None = None) -> list[NetkitDevice]:
    """List the single devices in a namespace; the calling thread's if not given."""
    netns = expect_netns(netns, "netns")
    found = sorted(device_list(netns._netlink(), "netkit"), key=lambda info: info.ifindex)
    return [NetkitDevice._of(info, netns) for info in found if info.link == 0]
