"""Threads make and drop at once what is made without the GIL: pybind11 knows every instance by a table of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

from netkit_bpf import NetNS, _core

THREADS, TIMES = 4, 1500  # the process aborted after some 500 of each, when the table was changed without the GIL


def at_once(make: Callable[[], object]) -> None:
    meet = threading.Barrier(THREADS, timeout=30)
    failed: list[BaseException] = []

    def loop() -> None:
        try:
            meet.wait()
            for _ in range(TIMES):
                make()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=loop) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_watches_and_subscriptions() -> None:
    with NetNS.create() as here:
        space = here._open()
        at_once(lambda: (_core.PairWatch(None, None), _core.Subscription(space)))
