# SPDX-License-Identifier: MIT
"""The pairs of a namespace as they come."""

from __future__ import annotations

import errno
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Protocol

from netkit_bpf.devices.netns import NetNS
from netkit_bpf.devices.pair import NetkitPair, pairs
from netkit_bpf.errors import NotAPairError
from netkit_bpf.functions.following.link_socket import LinkSocket
from netkit_bpf.internal.threads import start

_log = logging.getLogger("netkit_bpf")


def open_by_primary(ifindex: int, netns: NetNS) -> NetkitPair | None:
    """The pair whose primary has this number; None if there is none, or no more."""
    try:
        pair = NetkitPair.open(ifindex, netns)
    except NotAPairError:
        return None
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    return pair if pair.primary.netns == netns and pair.primary.ifindex == ifindex else None


class Watching(Protocol):
    """What a follower needs of a monitor."""

    @property
    def closed(self) -> bool:
        """Whether it was closed."""

    def watches(self, pair: NetkitPair) -> bool:
        """Whether it watches the pair."""

    def add(self, pair: NetkitPair) -> None:
        """Watch the pair."""


class PairFollower:
    """Adds each pair whose primary is in a namespace, comes there or is renamed there, on a thread of its own.

    While nothing happens the thread sleeps. It keeps the namespace alive.

    Args:
        netns: the namespace.
        match: a pattern of the primary's name, or what says whether to add a pair; None: all.
        monitor: to which the pairs are added. The thread does not keep it.
    """

    def __init__(self, netns: NetNS, match: str | Callable[[NetkitPair], bool] | None, monitor: Watching) -> None:
        self._netns = netns
        self._match = match
        self._monitor = weakref.ref(monitor)
        self._process = os.getpid()
        self._names: dict[int, str] = {}  # of the devices that are known, by number
        self._thread: threading.Thread | None = None
        self._links = LinkSocket(netns)

    def start(self) -> None:
        """Add the pairs that there are, and start the thread for all later ones."""
        for pair in self._existing():
            self._take(pair)
        thread = threading.Thread(target=self._run, name="netkit-follower", daemon=True)
        start(thread, "watch for pairs that come")
        self._thread = thread

    def close(self) -> None:
        """End the thread, which lets go of the descriptors. Idempotent; the thread itself may call it."""
        if not self._links.stop():  # another thread was faster
            return
        if os.getpid() != self._process or self._thread is None:
            self._links.close()
        elif self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        try:
            while self._links.wait():
                try:
                    for pair in self._new():
                        self._arrive(pair)
                except Exception as error:  # such as a limit of descriptors, below which the next pair may be again
                    if not self._links.stopped:
                        _log.warning("pairs that come to %s may be unwatched: %s", self._netns, error)
        finally:
            self._links.close()

    def _arrive(self, pair: NetkitPair) -> None:
        try:
            self._take(pair)
        except Exception as error:  # the next pair may do better
            if not self._links.stopped:
                _log.warning("%s is not watched: %s", pair, error)

    def _take(self, pair: NetkitPair) -> None:
        monitor = self._monitor()
        if monitor is None or monitor.closed:
            return
        try:
            if self._matches(pair) and not monitor.watches(pair):
                monitor.add(pair)
        except OSError as error:
            if error.errno != errno.ENODEV:  # deleted meanwhile
                raise

    def _matches(self, pair: NetkitPair) -> bool:
        if self._match is None:
            return True
        if isinstance(self._match, str):
            return fnmatchcase(pair.primary.name, self._match)
        return self._match(pair)

    def _existing(self) -> list[NetkitPair]:
        return [pair for pair in pairs(self._netns) if pair.primary.netns == self._netns]

    def _new(self) -> Iterator[NetkitPair]:
        for news in self._links.read():
            if news is None:
                self._names.clear()
                there = self._existing()
                _log.warning(
                    "notifications of pairs that came to %s were lost, so its pairs were listed anew: any that came and"
                    " went meanwhile were not watched",
                    self._netns,
                )
                yield from there
            elif news.is_gone:
                self._names.pop(news.ifindex, None)
            elif self._names.get(news.ifindex) != news.name:
                self._names[news.ifindex] = news.name
                if (pair := self._open_pair(news.ifindex)) is not None:
                    yield pair

    def _open_pair(self, ifindex: int) -> NetkitPair | None:
        try:
            return open_by_primary(ifindex, self._netns)
        except OSError as error:
            _log.warning("device %d of %s is not watched: %s", ifindex, self._netns, error)
            return None
