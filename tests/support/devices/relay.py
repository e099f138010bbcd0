"""A wire that takes its time, on kernels without netem too: frames from one device to another after a delay."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from netkit_bpf import Device

PACKET_OUTGOING = 4  # linux/if_packet.h
LOOK_EVERY = 0.1


@contextlib.contextmanager
def relay(one: Device, other: Device, delay: float) -> Iterator[None]:
    """Send by each device what the other receives, so many seconds later. Nobody may leave checksums to the device."""
    with contextlib.ExitStack() as undo:
        ends = [undo.enter_context(each.netns.socket(socket.AF_PACKET, socket.SOCK_RAW)) for each in (one, other)]
        for end, device in zip(ends, (one, other), strict=True):
            end.bind((device.name, 3))  # ETH_P_ALL
        ending = threading.Event()
        thread = threading.Thread(target=_carry, args=(ends, delay, ending))
        thread.start()
        undo.callback(thread.join)
        undo.callback(ending.set)
        yield


def _carry(ends: list[socket.socket], delay: float, ending: threading.Event) -> None:
    under_way: deque[tuple[float, socket.socket, bytes]] = deque()
    while not ending.is_set():
        left = under_way[0][0] - time.monotonic() if under_way else LOOK_EVERY
        for into in select.select(ends, [], [], min(max(left, 0), LOOK_EVERY))[0]:
            sender: tuple[Any, ...]
            frame, sender = into.recvfrom(65536)
            if sender[2] != PACKET_OUTGOING:
                under_way.append((time.monotonic() + delay, ends[into is ends[0]], frame))
        while under_way and under_way[0][0] <= time.monotonic():
            _, out, frame = under_way.popleft()
            out.send(frame)
