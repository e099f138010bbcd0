# SPDX-License-Identifier: MIT
"""Looking again when the pairs of a load balancer were changed or deleted, by whatever process."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Set

from netkit_bpf.devices.netns import NetNS
from netkit_bpf.functions.following.link_socket import LinkSocket
from netkit_bpf.functions.following.locked_call import call_with_lock
from netkit_bpf.internal.process_lock import ProcessLock
from netkit_bpf.internal.threads import start

_log = logging.getLogger("netkit_bpf")

_AGAIN = 1.0  # seconds, after which it tries again what failed

Look = Callable[[Set[int] | None], None]


class BackendFollower:
    """Calls a method with the numbers of devices that were changed or are gone, on a thread of its own.

    None stands for any device: so many changed that the kernel could not tell of all. While nothing happens the thread
    sleeps.

    Args:
        netns: the namespace of the devices. It is kept alive.
        look: the method, whose object the follower does not keep. What that raises is logged to "netkit_bpf", and it is
            called with the same numbers again.
        lock: to be held while that is called. Who closes the follower may hold it.

    Raises:
        OSError: EMFILE, there can be no more descriptors; EAGAIN, no more threads.
    """

    def __init__(self, netns: NetNS, look: Look, lock: ProcessLock) -> None:
        self._process = os.getpid()
        self._links = LinkSocket(netns)
        weakref.finalize(self, self._links.stop)  # the thread does not keep the follower
        arguments = (self._links, weakref.WeakMethod(look), lock)
        self._thread = threading.Thread(target=_follow, args=arguments, name="netkit-follower", daemon=True)
        try:
            start(self._thread, "follow the backends")
        except BaseException:  # an interrupt may come when it runs already
            self.close()
            raise

    def stop(self) -> None:
        """Call the method no more, but for a call that has begun."""
        self._links.stop()

    def close(self) -> None:
        """End the thread, which lets go of the descriptors. Idempotent; the thread itself may call it."""
        self._links.stop()
        if os.getpid() != self._process or self._thread.ident is None:
            self._links.close()
        elif self._thread is not threading.current_thread():
            self._thread.join()


def _follow(links: LinkSocket, look: weakref.WeakMethod[Look], lock: ProcessLock) -> None:
    changed: set[int] | None = set()
    try:
        while links.wait(None if changed == set() else _AGAIN):
            try:
                for news in links.read():
                    if news is None:
                        changed = None
                    elif changed is not None:
                        changed.add(news.ifindex)
                if changed != set():
                    call_with_lock(lock, lambda: links.stopped, look, changed)
                changed = set()
            except Exception as error:
                if not links.stopped:
                    _log.warning("a change of a backend's pair is not followed yet: %s", error)
    finally:
        links.close()
