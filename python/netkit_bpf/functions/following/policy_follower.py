# SPDX-License-Identifier: MIT
"""Looking again when a policy of a pair was changed, by whatever process."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable

from netkit_bpf.devices.pair import NetkitPair
from netkit_bpf.devices.watch import Watch
from netkit_bpf.enums import ChangeKind
from netkit_bpf.functions.following.locked_call import call_with_lock
from netkit_bpf.internal.process_lock import ProcessLock
from netkit_bpf.internal.threads import start

_log = logging.getLogger("netkit_bpf")

_AGAIN = 1.0  # seconds, after which it tries again what failed


class PolicyFollower:
    """Calls a method after each change of a policy of a pair, on a thread of its own, which sleeps until then.

    It follows the pair until `close`, or until the pair is gone or is moved where it cannot be heard of.

    Args:
        pair: the pair.
        look: the method, whose object it does not keep. What that raises is logged to "netkit_bpf", and it is called
            again.
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
        arguments = (self._watch, weakref.WeakMethod(look), lock, name)
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


def _follow(watch: Watch, look: weakref.WeakMethod[Callable[[], None]], lock: ProcessLock, name: str) -> None:
    is_due = False  # the policies changed, and were not looked at since
    with contextlib.suppress(ValueError):  # the watch was closed
        while True:
            asked = time.monotonic()
            change = watch.read(_AGAIN if is_due else None)
            if change is None and (not is_due or time.monotonic() < asked + _AGAIN / 2):  # none can come any more
                return
            is_due = is_due or (change is not None and change.kind is ChangeKind.POLICY)
            if is_due:
                try:
                    call_with_lock(lock, lambda: watch.closed, look)
                    is_due = False
                except Exception as error:
                    _log.warning("a change of a policy of %s is not followed yet: %s", name, error)
