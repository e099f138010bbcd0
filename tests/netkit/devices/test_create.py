"""Creation in batches, of single devices, and with a failure at each of its steps."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from elsewhere import only_where
from netkit_bpf import Mode, NetkitDevice, NetkitPair, NetNS, NotAPairError, NotSupportedError, pairs
from netkit_bpf.devices.pair import create_pairs, delete_group
from netkit_bpf.devices.pair_options import check_pair_options
from netkit_bpf.internal import kernel_release


@pytest.fixture
def here() -> Iterator[NetNS]:
    with NetNS.create() as made:
        yield made


def names(netns: NetNS) -> set[str]:
    return {name for _, name in netns.call(socket.if_nameindex)}


def walk(near: NetNS, far: NetNS, failing: NetNS) -> int:
    """Let each request of a creation fail in turn; returns how many there are in the failing namespace."""
    n = 1
    while True:
        failing._netlink().fail_request(n, errno.ENOMEM)
        try:
            pair = NetkitPair.create(netns=near, peer_netns=far, alias="a", peer_alias="b", mtu=1400)
        except OSError as error:
            refused = error
        else:
            failing._netlink().fail_request(0, 0)
            pair.delete()
            return n - 1
        assert refused.errno == errno.ENOMEM
        assert "requested by a test" in str(refused)
        assert names(near) == names(far) == {"lo"}
        n += 1


def test_a_failure_at_any_step_leaves_nothing_behind(here: NetNS) -> None:
    with NetNS.create() as there:
        # creation, alias, addrgenmode, up, reading, once more; the first and the last ask only the primary's namespace
        assert walk(here, there, here) == 6
        assert walk(here, there, there) == 4
        assert walk(here, here, here) == 10


def test_many_pairs_are_made_at_once_and_deleted_by_their_group(here: NetNS) -> None:
    with NetNS.create() as there:
        orders = []
        for number in range(40):  # more than go into one message
            options = check_pair_options(f"a{number}", f"b{number}", ends={"group": 7, "alias": f"number {number}"})
            orders.append((options, there if number % 2 else here))
        made = create_pairs(here, orders)
        assert [pair.primary.name for pair in made] == [f"a{number}" for number in range(40)]
        assert [pair.primary.alias for pair in made[:2]] == ["number 0", "number 1"]
        assert (made[38].peer.netns, made[39].peer.netns) == (here, there)
        assert made[39].peer.is_up
        assert delete_group(7, here)
        assert names(here) == names(there) == {"lo"}
        assert not delete_group(7, here)


def test_when_one_of_many_cannot_be_made_none_is(here: NetNS) -> None:
    with NetkitPair.create("a2", netns=here):
        before = names(here)
        with pytest.raises(FileExistsError, match=r"create netkit pair a2: .*named a2 or a2p is there already"):
            create_pairs(here, [(check_pair_options(f"a{number}"), here) for number in range(4)])
        assert names(here) == before


def test_a_single_device_is_refused_by_name_where_the_kernel_has_none(here: NetNS) -> None:
    only_where(not kernel_release.is_at_least("7.1"), "kernels before 7.1")
    for name in ("nk0", "other"):
        with pytest.raises(NotSupportedError, match=r"single netkit devices: .*needs Linux 7\.1; this kernel is"):
            NetkitDevice.create(name, netns=here)
        assert names(here) == {"lo"}
    with NetkitPair.create("nk0", netns=here), pytest.raises(FileExistsError, match="nk0 is there already"):
        NetkitDevice.create("nk0", netns=here)


def test_a_single_device_is_made(here: NetNS) -> None:
    only_where(kernel_release.is_at_least("7.1"), "Linux 7.1 or later")
    options = {"group": 3, "alias": "alone"}
    with NetkitDevice.create(
        "nk0", netns=here, mode="l2", headroom=32, tailroom=8, mac="02:00:00:00:00:01", mtu=9000,
        num_rx_queues=2, **options,  # type: ignore[arg-type]
    ) as device:  # fmt: skip
        assert names(here) == {"lo", "nk0"}
        assert pairs(here) == []
        with pytest.raises(NotAPairError, match="nk0 is a single netkit device: it has no peer"):
            NetkitPair.open("nk0", here)
        assert (device.mode, device.headroom, device.tailroom) == (Mode.L2, 32, 8)
        assert (device.mac, device.mtu, device.group, device.alias) == ("02:00:00:00:00:01", 9000, 3, "alone")
        assert device.num_rx_queues == 2
        assert device.is_up
        with pytest.raises(FileExistsError, match="nk0 is there already"):
            NetkitDevice.create("nk0", netns=here)
    device.delete()
    assert names(here) == {"lo"}


def test_a_single_device_whose_making_fails_is_not_left(here: NetNS) -> None:
    only_where(kernel_release.is_at_least("7.1"), "Linux 7.1 or later")
    for n in range(1, 5):
        here._netlink().fail_request(n, errno.ENOMEM)
        with pytest.raises(OSError, match="requested by a test"):
            NetkitDevice.create(netns=here, alias="a")
        assert names(here) == {"lo"}
