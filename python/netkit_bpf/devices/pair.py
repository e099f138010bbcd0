# SPDX-License-Identifier: MIT
"""netkit pairs: ip-link(8), drivers/net/netkit.c."""

from __future__ import annotations

import errno
import ipaddress
import os
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from netkit_bpf._core import (
    DeviceInfo,
    Made,
    device_list,
    group_delete,
    hand_over,
    pair_set_policy,
    pairs_create,
)
from netkit_bpf._core import PairOptions as CorePairOptions
from netkit_bpf.bpf.attached import AttachedProgram, HookPrograms
from netkit_bpf.bpf.hook import Anchor, Hook, Link
from netkit_bpf.bpf.program import Program
from netkit_bpf.devices.device import Device, delete_device, find_device, is_left, other_end
from netkit_bpf.devices.netns import DELETE_IT, NetNS, expect_netns
from netkit_bpf.devices.pair_options import PairOptions, check_pair_options
from netkit_bpf.enums import Mode, Policy, Rank, Scrub, Side
from netkit_bpf.errors import NotAPairError
from netkit_bpf.internal.arguments import expect, expect_in, expect_word
from netkit_bpf.internal.resource import Resource

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from netkit_bpf.devices.watch import Watch
    from netkit_bpf.internal.drawing import Cable


class NetkitPair(Resource):
    """A pair of netkit devices.

    Made by `create` or `open`. As a context manager, a pair that was created is deleted on exit; one that was opened
    stays. Any thread may use it.

    >>> with NetkitPair.create("nk0", mode="l2") as pair:  # doctest: +SKIP
    ...     print(pair.primary, pair.peer)
    """

    def __init__(self, primary: Device, peer: Device | None, *, owned: bool, made: Made | None = None) -> None:
        self._primary = primary
        self._peer = peer
        self._owned = owned
        self._made = made  # until it is deleted
        if peer is not None:
            self._join(peer)

    @classmethod
    def create(
        cls,
        name: str = "nk0",
        *,
        peer_name: str | None = None,
        mode: Mode | str = Mode.L3,
        policy: Policy | str = Policy.FORWARD,
        peer_policy: Policy | str = Policy.FORWARD,
        scrub: Scrub | str | None = None,
        peer_scrub: Scrub | str | None = None,
        headroom: int | None = None,
        tailroom: int | None = None,
        mtu: int | None = None,
        peer_mtu: int | None = None,
        mac: str | None = None,
        peer_mac: str | None = None,
        netns: NetNS | None = None,
        peer_netns: NetNS | None = None,
        up: bool = True,
        replace: bool = False,
        **options: Unpack[PairOptions],
    ) -> NetkitPair:
        """Make a pair. On any failure nothing is left behind, and nothing that existed is touched.

        In L3 mode the ends get no automatic IPv6 link-local address, as both would get the same one.

        Args:
            name: of the primary, 1 to 15 bytes.
            peer_name: of the peer; by default the primary's name with a "p" appended.
            mode: "l2" or "l3".
            policy: "forward" or "blackhole": what happens to the primary's packets while no program is attached.
            peer_policy: the same for the peer's.
            scrub: "none" or "default": whether packets lose mark and priority on their way from the primary into
                another namespace. By default "none" if the kernel can choose (6.13 or 6.12.4), else "default".
            peer_scrub: the same for the peer's packets.
            headroom: bytes to reserve before each packet, 0 to 65535 (6.14).
            tailroom: bytes to reserve behind each packet, 0 to 65535 (6.14).
            mtu: of the primary, 68 to 65535 bytes.
            peer_mtu: of the peer; the primary's if not given.
            mac: of the primary, "02:00:00:00:00:01"; L2 only (6.10). Not given, a random one, which stays. With
                "kernel" the kernel chooses one, which systemd-udevd replaces.
            peer_mac: of the peer.
            netns: the primary's namespace; by default the calling thread's.
            peer_netns: the peer's namespace; by default the primary's.
            up: whether both ends are set up.
            replace: replace a pair that has the name of an end, if `reap` would remove that pair: this package made it,
                and no process is left that may use it. Any other pair stays, and FileExistsError is raised.
            options: attributes that ip-link(8) sets on any device: alias, group, txqueuelen, num_tx_queues,
                num_rx_queues, gso_max_size, gso_max_segs, gro_max_size, gso_ipv4_max_size, gro_ipv4_max_size,
                addrgenmode ("eui64", "none", "stable_secret", "random") and ifindex, each also with "peer_" before it.
                An attribute that is not given for the peer is taken from the primary, except alias and ifindex. By
                default the alias of both ends says which process made them, so that `reap` can remove the pair if that
                process is killed. A pair with an alias of your own, even an empty one, stays until it is deleted.

        Raises:
            ValueError: an argument is not valid on any kernel.
            FileExistsError: one of the names is taken; the text says by whom, and what can be done.
            PermissionError: CAP_NET_ADMIN is missing.
            NotSupportedError: the kernel has no netkit devices, or ignored an attribute that was asked for.
        """
        checked = check_pair_options(
            name, peer_name, mode=mode, policy=policy, peer_policy=peer_policy, scrub=scrub, peer_scrub=peer_scrub,
            headroom=headroom, tailroom=tailroom, up=up,
            ends={"mtu": mtu, "peer_mtu": peer_mtu, "mac": mac, "peer_mac": peer_mac, **options},
        )  # fmt: skip
        netns = expect_netns(netns, "netns")
        peer_netns = netns if peer_netns is None else expect_netns(peer_netns, "peer_netns")
        names = ((checked.primary.name, netns), (checked.peer.name, peer_netns))
        if expect(replace, bool, "replace"):
            from netkit_bpf.devices.reap import remove_orphans

            remove_orphans(names)
        try:
            return hand_over(create_pairs(netns, [(checked, peer_netns)])[0])
        except FileExistsError as error:
            from netkit_bpf.devices.reap import explain_taken

            raise explain_taken(error, names) from None

    @classmethod
    def open(cls, name: str | int, netns: NetNS | None = None) -> NetkitPair:
        """Open an existing pair by the name or ifindex of either end.

        Args:
            name: the name or an alternative name of one end, or its ifindex.
            netns: where that end lives; the calling thread's namespace if not given.

        Raises:
            NotAPairError: the device is not a netkit device, or a single one, or the peer of a primary whose namespace
                cannot be found.
            OSError: ENODEV, there is no such device.
        """
        netns = expect_netns(netns, "netns")
        info = find_device(name, netns)
        if info.kind != "netkit":
            raise NotAPairError(f"{info.name} is a {info.kind or 'plain'} device, not a netkit device")
        if info.link == 0:
            raise NotAPairError(f"{info.name} is a single netkit device: it has no peer")
        pair = cls._from_info(info, netns)
        if pair is None:
            raise NotAPairError(
                f"{info.name} is the peer of a pair whose primary lives in a network namespace that has no name and"
                " no process here; open the pair by its primary, from inside that namespace"
            )
        return pair

    @classmethod
    def of(cls, which: int | str | os.PathLike[str] | NetNS) -> NetkitPair:
        """Open the pair of a container, or of whatever lives in a network namespace: one end of it is in there.

        Containers are found by their cgroups, without asking a runtime: those of Docker, Podman, containerd, CRI-O and
        Kubernetes, with cgroup v1 and v2. What a container says itself is not trusted: neither the names that it gives
        to cgroups of its own, nor files in its mount namespace.

        Args:
            which: the id of a process; the id of a container or of a pod, or as much of its beginning as no other has;
                a path, which is anything with a "/": of a namespace, as `NetNS.open` takes it, or of a cgroup, as
                "/sys/fs/cgroup/machine.slice/…"; or a `NetNS`.

        Raises:
            ValueError: `which` cannot be any of these.
            FileNotFoundError: there is no such process or path.
            LookupError: there is no such container, or more than one; it shares the network of the machine or of this
                process; no pair has an end there, or several have. The text lists what there is.
            PermissionError: the processes belong to another user, and CAP_SYS_PTRACE is missing; or CAP_SYS_ADMIN is.

        >>> NetkitPair.of("3f9a12c0"), NetkitPair.of(4711), NetkitPair.of("/run/netns/red")  # doctest: +SKIP

        Source: cgroups(7), proc_pid_cgroup(5)
        """
        from netkit_bpf.devices.places import places_of  # it takes long to import

        what, places = places_of(which)
        found = {(pair.primary.netns, pair.primary.ifindex): pair for netns in places for pair in pairs(netns)}
        if len(found) == 1:
            return next(iter(found.values()))
        if found:
            names = ", ".join(
                sorted(f"{each.primary._known_name} in {each.primary.netns._label}" for each in found.values())
            )
            raise LookupError(f"{what} has ends of {len(found)} pairs: {names}; open one by its name")
        there = [info for netns in places for info in device_list(netns._netlink(), "")]
        if any(info.kind == "netkit" and info.link for info in there):
            raise NotAPairError(f"{what}: the primary is in a network namespace that has no name and no process here")
        names = ", ".join(f"{info.name} ({info.kind or 'plain'})" for info in there)
        raise NotAPairError(f"{what} has no end of a pair: there are {names}")

    @classmethod
    def _from_info(cls, info: DeviceInfo, netns: NetNS) -> NetkitPair | None:
        """The pair of an end; None if this end is the peer and the primary cannot be found."""
        near = Device._of(info, netns)
        if info.primary:  # a peer elsewhere is looked up on first use, because that holds its namespace
            return cls(near, other_end(info, netns) if info.link_netnsid is None else None, owned=False)
        far = other_end(info, netns)
        return None if far is None else cls(far, near, owned=False)

    @property
    def primary(self) -> Device:
        """The primary: the end with the given name, through which programs are attached."""
        return self._primary

    @property
    def peer(self) -> Device:
        """The peer.

        For a pair that was opened, the peer is looked up on first use. From then on the pair holds the peer's namespace
        and keeps it alive.

        Raises:
            LookupError: the peer's namespace cannot be found: it has no name and no process here.
            OSError: ENODEV, the pair is gone.
        """
        if self._peer is None:
            self._peer = found = self._find_peer()
            if found is not None:
                self._join(found)
        if self._peer is None:
            raise LookupError(
                f"the peer of {self._primary!r} lives in a network namespace that has no name and no process here"
            )
        return self._peer

    def _join(self, peer: Device) -> None:
        self._primary._opposite, peer._opposite = weakref.ref(peer), weakref.ref(self._primary)

    def _find_peer(self) -> Device | None:
        """The peer, without holding its namespace longer than the caller does; None if it cannot be found."""
        return self._peer or other_end(self._read(), self._primary.netns)

    @property
    def mode(self) -> Mode:
        """The mode, read from the kernel."""
        return Mode.from_number(self._read().mode)

    @property
    def policy(self) -> Policy:
        """The primary's policy, read from the kernel."""
        return Policy.from_number(self._read().policy, Policy.FORWARD)

    @property
    def peer_policy(self) -> Policy:
        """The peer's policy, read from the kernel."""
        return Policy.from_number(self._read().peer_policy, Policy.FORWARD)

    @property
    def scrub(self) -> Scrub:
        """What the primary's packets lose, read from the kernel; "default" on kernels that cannot choose."""
        return Scrub.from_number(self._read().scrub, Scrub.DEFAULT)

    @property
    def peer_scrub(self) -> Scrub:
        """What the peer's packets lose, read from the kernel."""
        return Scrub.from_number(self._read().peer_scrub, Scrub.DEFAULT)

    @property
    def headroom(self) -> int:
        """Bytes reserved before each packet, read from the kernel."""
        return self._read().headroom or 0

    @property
    def tailroom(self) -> int:
        """Bytes reserved behind each packet, read from the kernel."""
        return self._read().tailroom or 0

    def set_policy(self, policy: Policy | str, *, side: Side | str = Side.PRIMARY) -> None:
        """Change the policy of one side.

        The policy applies while no program is attached there. An attached monitor and a firewall follow the change at
        once.

        Args:
            policy: "forward" or "blackhole".
            side: "primary" or "peer": the side whose packets it applies to.

        Raises:
            PermissionError: CAP_NET_ADMIN is missing.
        """
        number = expect_word(policy, Policy, "policy").number
        of_peer = expect_word(side, Side, "side") is Side.PEER
        pair_set_policy(*self._primary._verified(), number, of_peer)

    def hook(self, side: Side | str) -> Hook:
        """The hook that sees what one side sends: "primary" or "peer".

        >>> pair.hook("peer").programs  # doctest: +SKIP
        """
        return Hook(self._primary, expect_word(side, Side, "side"))

    def attach(
        self,
        program: Program,
        side: Side | str,
        *,
        rank: Rank | str | None = None,
        before: Anchor | None = None,
        after: Anchor | None = None,
        expected_revision: int | None = None,
    ) -> Link:
        """Attach a program to the hook that sees what one side sends: short for `hook(side).attach(program, …)`.

        A side's policy applies only while no program is attached.

        >>> link = pair.attach(obj.programs["drop"], "peer", before="all")  # doctest: +SKIP
        """
        hook = self.hook(side)
        return hook.attach(program, rank=rank, before=before, after=after, expected_revision=expected_revision)

    def programs(self, side: Side | str) -> HookPrograms:
        """The programs on a side's hook, in the order in which they run, and the hook's revision.

        Raises:
            OSError: ENODEV, the pair is gone.
            PermissionError: CAP_NET_ADMIN is missing.

        >>> revision, programs = pair.programs("peer")  # doctest: +SKIP
        """
        return self.hook(side).query()

    def detach(self, program: Program | AttachedProgram, side: Side | str) -> None:
        """Detach a program that no link holds from a side's hook; errors are those of `Hook.detach`."""
        self.hook(side).detach(program)

    def add_link_local(self) -> tuple[ipaddress.IPv6Interface, ipaddress.IPv6Interface]:
        """Give each end a link-local address with a random interface identifier, usable at once.

        The identifiers come from the system's secure source (RFC 7217 tells why they should be opaque).

        Returns:
            The addresses of the primary and of the peer, both /64. On any failure neither is added.

        Raises:
            PermissionError: CAP_NET_ADMIN is missing, or IPv6 is disabled on a device.
        """
        primary, peer = _random_link_local(), _random_link_local()
        self.primary.add_address(primary)
        try:
            self.peer.add_address(peer)
        except BaseException:
            self.primary.remove_address(primary)
            raise
        return primary, peer

    def watch(self) -> Watch:
        """Listen to changes of both ends from now on, made by any process.

        Raises:
            OSError: ENODEV, an end is gone.
            PermissionError: an end is in another namespace, and CAP_NET_ADMIN or CAP_NET_BROADCAST is missing.

        >>> with pair.watch() as watch:  # doctest: +SKIP
        ...     for change in watch.events(timeout=1.0):
        ...         print(change)  # [peer] nk0p down
        """
        from netkit_bpf.devices.watch import Watch

        return Watch(self._primary, self._find_peer())

    def delete(self) -> None:
        """Delete both ends. Idempotent: it is not an error if the pair is gone.

        A primary that another process moved away is deleted with its peer, if this pair was created here or its `peer`
        was used before.
        """
        if not delete_device(self._primary) and self._peer is not None and self._peer_remains():
            delete_device(self._peer)
        self._let_go()

    def _let_go(self) -> None:
        """Forget the pair: it is gone, or something else will delete it."""
        made, self._made = self._made, None
        if made is not None:
            made.keep()

    def _noun(self) -> str:
        return f"NetkitPair {self._primary._known_name}" if self._made is not None and is_left(self._primary) else ""

    def _let_go_of(self) -> str:
        return f"was never deleted, and stays: {DELETE_IT}"

    def _read(self) -> DeviceInfo:
        try:
            return self._primary._read()
        except OSError as error:
            if error.errno != errno.ENODEV or not self._peer_remains():
                raise
            raise OSError(
                errno.ENODEV,
                f"look up device {self._primary._known_name}: somebody moved it to another network namespace; its peer"
                f" {self.peer._known_name} is still there: open the pair again by that name",
            ) from None

    def _peer_remains(self) -> bool:
        """Whether the peer still exists though the primary is gone. Numbers are reused, so names are compared."""
        if self._peer is None:
            return False
        name = self._peer._known_name
        try:
            return self._peer._read().name == name
        except (OSError, ValueError):  # the device, or its namespace, is gone
            return False

    def __enter__(self) -> NetkitPair:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._owned:
            self.delete()

    def __repr__(self) -> str:
        primary, peer = self._primary, self._peer
        near = primary._known_name
        if peer is None or peer.netns != primary.netns:
            near += f" in {primary.netns._label}"
        far = "its peer elsewhere" if peer is None else f"{peer._known_name} in {peer.netns._label}"
        return f"<NetkitPair {near}, {far}{self._state()}>"

    def _repr_html_(self) -> str | None:
        from netkit_bpf.internal.drawing import draw_cables
        from netkit_bpf.internal.html import facts, show

        def build() -> list[object]:
            sides = facts(
                policy=f"{self.policy}, of the peer {self.peer_policy}",
                scrub=f"{self.scrub}, of the peer {self.peer_scrub}",
                mtu=self.primary.mtu,
            )
            return [draw_cables(_box_of(self.primary), [self._cable()]), sides]

        return show(self, build)

    def _cable(self, name: str = "") -> Cable:
        """The pair as a cable of a drawing, with what is on its hooks now."""
        from netkit_bpf.internal.drawing import Cable

        try:
            far = _box_of(self.peer)
        except LookupError:
            far = ["the peer, elsewhere"]
        on = [[each.name or f"program {each.id}" for each in self.hook(side).programs] for side in Side]
        return Cable(name, on[0], on[1], far)

    def _state(self) -> str:
        """The end of the repr: the mode, or what became of the pair."""
        try:
            number = self._primary._read().mode
        except ValueError:
            return ""  # its namespace says so
        except OSError as error:
            if error.errno != errno.ENODEV:
                return ""
            return ", whose primary was moved away" if self._peer_remains() else " deleted"
        return "".join(f" mode={mode}" for mode in Mode if mode.number == number)


def _box_of(device: Device) -> list[str]:
    """What a drawing says in the box of a device."""
    return [device.name, device.netns._label, *map(str, device.addresses), *([] if device.is_up else ["down"])]


def create_pairs(netns: NetNS, orders: Sequence[tuple[CorePairOptions, NetNS]]) -> list[NetkitPair]:
    """Make several pairs in as few messages as possible: all of them, or none on any failure.

    Args:
        netns: the namespace of the primaries.
        orders: the options of each pair (`check_pair_options`), and the namespace of its peer.
    """
    for options, peer_netns in orders:
        options.peer_netns = peer_netns._open()
    netlink = netns._netlink()
    sockets = {each: each._netlink() for each in {peer_netns for _, peer_netns in orders} - {netns}}
    made = pairs_create(netlink, [(options, sockets.get(peer_netns, netlink)) for options, peer_netns in orders])
    return [
        NetkitPair(Device._of(primary, netns), Device._of(peer, peer_netns), owned=True, made=owner)
        for (primary, peer, owner), (_, peer_netns) in zip(made, orders, strict=True)
    ]


def delete_group(group: int, netns: NetNS) -> bool:
    """Delete all devices of a group other than 0, with a single wait in the kernel; False if there is none."""
    return group_delete(netns._netlink(), expect_in(group, range(1, 1 << 32), "group"))


def pairs(netns: NetNS | None = None) -> list[NetkitPair]:
    """List the pairs that have an end in a namespace, in the order of its devices.

    A pair whose primary lives in a namespace that has no name and no process here is left out: it cannot be opened
    from its peer.

    Args:
        netns: the namespace; the calling thread's if not given.
    """
    netns = expect_netns(netns, "netns")
    found: list[NetkitPair] = []
    seen: set[int] = set()
    for info in sorted(device_list(netns._netlink(), "netkit"), key=lambda info: info.ifindex):
        if info.link == 0 or info.ifindex in seen:  # a single device, or the second end of one that is listed
            continue
        if info.link_netnsid is None:
            seen.add(info.link)
        try:
            pair = NetkitPair._from_info(info, netns)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            continue  # deleted meanwhile
        if pair is not None:
            found.append(pair)
    return found


def _random_link_local() -> ipaddress.IPv6Interface:
    while True:
        identifier = int.from_bytes(os.urandom(8), "big")
        # Zero is the subnet-router anycast address; the others are reserved (RFC 5453).
        if identifier and identifier >> 8 != 0xFDFFFFFFFFFFFF:
            return ipaddress.IPv6Interface(((0xFE80 << 112) | identifier, 64))
