# SPDX-License-Identifier: MIT
"""Looking again when a policy of a pair was changed, by whatever process."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator

from netkit_bpf.devices.pair import NetkitPair
from netkit_bpf.devices.watch import DeviceChange, Watch
from netkit_bpf.enums import ChangeKind
from netkit_bpf.functions.following.locked_call import call_with_lock
from netkit_bpf.internal.process_lock import ProcessLock
from netkit_bpf.internal.threads import start

_log = logging.getLogger("netkit_bpf")


class PolicyFollower:
    """Calls a method after each change of a policy of a pair, on a thread of its own, which sleeps until then.

    It follows the pair until `close`, or until the pair is gone or is moved where it cannot be heard of.

    Args:
        pair: the pair.
        look: the method, whose object it does not keep. What that raises is logged to "netkit_bpf".
        lock: to be held while that is called. Who closes the follower may hold it.

    Raises:
        PermissionError: the primary is in another namespace than the calling thread, and CAP_NET_ADMIN or
            CAP_NET_BROADCAST is missing.
        OSError: ENODEV, the pair is gone; EAGAIN, there can be no more threads.
    """

    def __init__(self, pair: NetkitPair, look: Callable[[], None], lock: ProcessLock) -> None:
        name = pair.primary.name
        self._process = os.getpid()
        self._watch = Watch(pair.primary, None)
        weakref.finalize(self, self._watch.close)  # the thread does not keep the follower
        arguments = (self._watch, self._watch.events(), weakref.WeakMethod(look), lock, name)
        self._thread = threading.Thread(target=_follow, args=arguments, name="netkit-follower", daemon=True)
        start(self._thread, f"follow the policies of {name}")

    def stop(self) -> None:
        """Call the method no more, but for a call that has begun."""
        self._watch.close()

    def close(self) -> None:
        """End the thread. Idempotent; the thread itself may call it."""
        self.stop()
        if os.getpid() == self._process and self._thread is not threading.current_thread():
            self._thread.join()


def _follow(
    watch: Watch,
    changes: Iterator[DeviceChange],
    look: weakref.WeakMethod[Callable[[], None]],
    lock: ProcessLock,
    name: str,
) -> None:
    for change in changes:
        if change.kind is ChangeKind.POLICY:
            try:
                call_with_lock(lock, lambda: watch.closed, look)
            except Exception as error:  # the next time it may do better
                _log.warning("a change of a policy of %s is not followed: %s", name, error)
