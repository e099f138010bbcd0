"""Packets that go from one container into another's past the primary's hook of its pair, on any kind of pair."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

from netkit_bpf import BPFObject, Monitor, NetkitPair, NetNS
from programs import WITNESSES, build
from traffic import End, collect, send_datagrams

MakePair = Callable[[NetNS, NetNS, str], AbstractContextManager[NetkitPair]]
HOST, SENDER, RECEIVER = "10.42.0.1", "10.42.0.2", "10.42.0.3"


@dataclass
class Scene:
    """`pair` leads from the host to the receiver. What the sender sends is redirected, what the host sends is not."""

    pair: NetkitPair
    host: End
    sender: End
    receiver: End


@contextlib.contextmanager
def scene(make_pair: MakePair) -> Iterator[Scene]:
    """Two containers and a host, which redirects the first one's IPv4 packets at tc ingress (bpf_redirect_peer)."""
    with ExitStack() as stack:
        host, sender, receiver = (stack.enter_context(NetNS.create()) for _ in range(3))
        first = stack.enter_context(make_pair(host, sender, "a"))
        second = stack.enter_context(make_pair(host, receiver, "b"))
        first.peer.add_address(f"{SENDER}/24")
        second.primary.add_address(f"{HOST}/24")
        second.peer.add_address(f"{RECEIVER}/24")
        # The host takes what is sent to its own device; whose it is, the redirected packet is not asked again.
        neighbour = ["ip", "neigh", "replace", RECEIVER, "dev", first.peer.name, "lladdr", first.primary.mac or ""]
        if first.primary.mac:
            sender.run(neighbour, check=True)
        obj = BPFObject.open(build(WITNESSES))
        obj.variables["target"].value = second.primary.ifindex
        stack.enter_context(obj)
        stack.enter_context(first.primary.attach(obj.programs["to_the_peer"], "ingress"))
        yield Scene(second, End(host, HOST), End(sender, SENDER), End(receiver, RECEIVER))


def send(scene: Scene) -> None:
    """Five datagrams each way: redirected, from the host, and back to it."""
    for source, destination in (
        (scene.sender, scene.receiver),
        (scene.host, scene.receiver),
        (scene.receiver, scene.host),
    ):
        send_datagrams(source, destination, [10] * 5)


def seen(monitor: Monitor) -> Counter[tuple[str, str]]:
    """How often the datagrams of each sender were seen, by the side that sent them."""
    return Counter((event.side.value, str(event.src)) for event in collect(monitor) if event.protocol == 17)


def each_packet_is_seen_once(make_pair: MakePair) -> None:
    """With and without a filter, and nothing of what is redirected unless that is asked for."""
    with scene(make_pair) as made:
        with Monitor(made.pair) as monitor:
            send(made)
            assert seen(monitor) == {("primary", HOST): 5, ("peer", RECEIVER): 5}
        for words in (None, "udp"):
            with Monitor(made.pair, redirected=True, filter=words) as monitor:
                send(made)
                assert seen(monitor) == {("primary", SENDER): 5, ("primary", HOST): 5, ("peer", RECEIVER): 5}
            assert made.pair.peer.hook("ingress").programs == ()
