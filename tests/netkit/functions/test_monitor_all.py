# SPDX-License-Identifier: MIT
"""A monitor of all pairs, and another process that makes, uses and deletes them."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time

from in_child import in_child
from netkit_bpf import Monitor, NetkitPair, NetNS
from sender import Sender

ROUNDS, OF_A_ROUND = 3, 3  # an emulated machine takes half a second for a pair
ETH_P_IPV6 = 0x86DD
NEXT_HEADER = 6  # its place in an IPv6 header
STORM = 4  # pairs
MOMENT = 0.3  # seconds, for what must not arrive
PATIENCE = 30.0


def use_pairs(netns: NetNS, ready: int, go: int) -> str:
    """Make pairs, say so, send on each once that is answered, and delete them; returns how many frames each sent."""
    sent: dict[str, int] = {}
    for number in range(ROUNDS):
        pairs = [NetkitPair.create(f"nk{number}x{index}", netns=netns) for index in range(OF_A_ROUND)]
        os.write(ready, b"m")
        os.read(go, 1)
        for index, pair in enumerate(pairs):
            with Sender(pair) as sender:
                sender(1 + number + index)
            sent[pair.primary.name] = 1 + number + index
        for pair in pairs:
            pair.delete()
    return " ".join(f"{name}={count}" for name, count in sent.items())


def test_what_another_process_sends_on_its_pairs_is_in_their_accounts() -> None:
    ready, made = os.pipe()
    answered, answer = os.pipe()
    with NetNS.create() as netns, Monitor.all(netns, match="nk*") as monitor:

        def follow() -> None:
            for number in range(ROUNDS):
                os.read(ready, 1)
                wanted = {f"nk{number}x{index}" for index in range(OF_A_ROUND)}
                while not {pair.name for pair in monitor.stats.pairs} >= wanted:
                    time.sleep(0.02)
                os.write(answer, b"g")

        following = threading.Thread(target=follow)
        following.start()
        text = in_child(lambda: use_pairs(netns, made, answered))
        following.join()
        sent = {name: int(count) for name, count in (word.split("=") for word in text.split())}
        assert len(sent) == ROUNDS * OF_A_ROUND
        seen = dict.fromkeys(sent, 0)
        for event in monitor.events(timeout=1.0):
            if event.side == "primary" and event.dst_port == 9:
                seen[event.pair_name] += 1
        assert seen == sent
        assert all(side.lost == 0 == side.pending for pair in monitor.stats.pairs for side in pair[1:3])
        assert all(side.seen == side.delivered for pair in monitor.stats.pairs for side in pair[1:3])
        assert {pair.end for pair in monitor.stats.pairs} == {"deleted"}
        assert monitor.observers == ()
    for fd in (ready, made, answered, answer):
        os.close(fd)


def arrives(sender: Sender, into: socket.socket) -> bool:
    """Send a frame; whether it comes out of the other end."""
    with contextlib.suppress(OSError):  # silence; or the sender is told of a drop at its own hook
        sender()
        while into.recv(100)[NEXT_HEADER] != socket.IPPROTO_UDP:  # the kernel's own
            pass
        return True
    return False


def test_pairs_come_and_go_and_a_policy_is_followed() -> None:
    with (
        NetNS.create() as netns,
        NetkitPair.create("nk0", netns=netns) as first,
        Monitor(first) as monitor,
        monitor.changes() as changes,
    ):
        with NetkitPair.create("nk1", netns=netns, peer_policy="blackhole") as second:
            monitor.add(second)
            with Sender(second) as sender, netns.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as into:
                into.bind((second.peer.name, ETH_P_IPV6))
                into.settimeout(MOMENT)
                assert arrives(sender, into)
                second.set_policy("blackhole")
                deadline = time.monotonic() + PATIENCE
                while arrives(sender, into):  # until the monitor was told
                    assert time.monotonic() < deadline
                assert not arrives(sender, into)
                sent = sender.sent
        with Sender(first) as sender:
            sender(1)
        names = [event.pair_name for event in monitor.events(timeout=1.0) if event.dst_port == 9]
        assert names == ["nk1"] * sent + ["nk0"]
        assert [pair.end for pair in monitor.stats.pairs] == [None, "deleted"]
        told = [(change.kind, change.pair.name) for change in changes.events(timeout=0)]
        assert told == [("added", "nk0"), ("added", "nk1"), ("deleted", "nk1")]


def test_a_storm_of_pairs_leaves_the_account_of_another_exact() -> None:
    with NetNS.create() as netns, NetkitPair.create("steady", netns=netns) as steady, Monitor.all(netns) as monitor:
        is_over = threading.Event()

        def keep_sending() -> None:
            with Sender(steady) as sender:
                while not is_over.wait(0.01):
                    sender(5)
                sent.append(sender.sent)

        sent: list[int] = []
        sending = threading.Thread(target=keep_sending)
        with monitor.changes() as changes:
            sending.start()
            for number in range(STORM):
                NetkitPair.create(f"nk{number}", netns=netns).delete()
            is_over.set()
            sending.join()
            seen = sum(event.pair_name == "steady" and event.dst_port == 9 for event in monitor.events(timeout=1.0))
            kinds = [change.kind for change in changes.events(timeout=0)]
        assert [seen] == sent
        assert kinds.count("added") == kinds.count("deleted") + 1
        stats = monitor.stats
        assert stats.total.seen == stats.total.delivered
        assert [each.device for each in monitor.observers] == ["steady"]
