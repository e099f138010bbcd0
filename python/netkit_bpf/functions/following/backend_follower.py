# SPDX-License-Identifier: MIT
"""Looking again when the pairs of a load balancer were changed or deleted, by whatever process."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from _thread import RLock
from collections.abc import Callable, Set

from netkit_bpf.devices.netns import NetNS
from netkit_bpf.functions.following.link_socket import LinkSocket
from netkit_bpf.functions.following.locked_call import call_with_lock
from netkit_bpf.internal.threads import start

_log = logging.getLogger("netkit_bpf")

Look = Callable[[Set[int] | None], None]


class BackendFollower:
    """Calls a method with the numbers of devices that were changed or are gone, on a thread of its own.

    None stands for any device: so many changed that the kernel could not tell of all. While nothing happens the thread
    sleeps.

    Args:
        netns: the namespace of the devices. It is kept alive.
        look: the method, whose object the follower does not keep. What that raises is logged to "netkit_bpf".
        lock: to be held while that is called. Who closes the follower may not hold it.

    Raises:
        OSError: EMFILE, there can be no more descriptors; EAGAIN, no more threads.
    """

    def __init__(self, netns: NetNS, look: Look, lock: RLock) -> None:
        self._process = os.getpid()
        self._links = LinkSocket(netns)
        arguments = (self._links, weakref.WeakMethod(look), lock)
        self._thread = threading.Thread(target=_follow, args=arguments, name="netkit-follower", daemon=True)
        try:
            start(self._thread, "follow the backends")
        except BaseException:
            self._links.close()
            raise

    def stop(self) -> None:
        """Call the method no more, but for a call that has begun."""
        self._links.stop()

    def close(self) -> None:
        """End the thread. Idempotent; the thread itself may call it."""
        self._links.stop()
        if os.getpid() == self._process and self._thread is not threading.current_thread():
            self._thread.join()
        self._links.close()


def _follow(links: LinkSocket, look: weakref.WeakMethod[Look], lock: RLock) -> None:
    while links.wait():
        try:
            changed: set[int] | None = set()
            for news in links.read():
                if news is None:
                    changed = None
                elif changed is not None:
                    changed.add(news.ifindex)
            if changed != set():
                call_with_lock(lock, lambda: links.stopped, look, changed)
        except Exception as error:  # the next time it may do better
            if not links.stopped:
                _log.warning("a change of a backend's pair is not followed: %s", error)
