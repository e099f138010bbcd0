# SPDX-License-Identifier: MIT
"""The pairs of a namespace as they come: rtnetlink(7), group RTNLGRP_LINK."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import socket
import struct
import threading
import weakref
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Protocol

from netkit_bpf.devices.netns import NetNS
from netkit_bpf.devices.pair import NetkitPair, pairs
from netkit_bpf.errors import NotAPairError
from netkit_bpf.internal.threads import start

_log = logging.getLogger("netkit_bpf")

# linux/netlink.h, linux/rtnetlink.h, linux/if_link.h: the system's Python may not know all of them
_NETLINK_ROUTE, _SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_LINK = 0, 270, 1, 1
_NEWLINK, _DELLINK = 16, 17
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER = 1 << 20
_DATAGRAM = 1 << 16
_MESSAGE = struct.Struct("=IHHII")  # struct nlmsghdr
_DEVICE = struct.Struct("=BxHiII")  # struct ifinfomsg
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr
_IFNAME = 3


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
        self._open = [True]  # emptied by who closes it
        self._was_full = False  # the kernel dropped notifications, and the devices were not looked at since
        with contextlib.ExitStack() as undo:
            self._socket = undo.enter_context(netns.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE))
            self._socket.setblocking(False)
            with contextlib.suppress(OSError):  # CAP_NET_ADMIN in the initial user namespace is missing
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
            self._socket.connect((0, 0))  # so that only the kernel can write to it
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_LINK)
            self._stopping = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            undo.pop_all()

    def start(self) -> None:
        """Add the pairs that there are, and start the thread for all later ones."""
        for pair in self._existing():
            self._take(pair)
        thread = threading.Thread(target=self._run, name="netkit-follower", daemon=True)
        start(thread, "watch for pairs that come")
        self._thread = thread

    def close(self) -> None:
        """End the thread. Idempotent; the thread itself may call it."""
        try:
            self._open.pop()
        except IndexError:  # another thread was faster
            return
        if os.getpid() == self._process and self._thread is not None:
            os.eventfd_write(self._stopping, 1)
            if self._thread is not threading.current_thread():
                self._thread.join()
        self._socket.close()
        os.close(self._stopping)

    def _run(self) -> None:
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        waiting.register(self._stopping, select.POLLIN)
        while self._open:
            waiting.poll()
            try:
                for pair in self._new():
                    self._arrive(pair)
            except Exception as error:  # such as a limit of descriptors, below which the next pair may be again
                if self._open:
                    _log.warning("pairs that come to %s may be unwatched: %s", self._netns, error)

    def _arrive(self, pair: NetkitPair) -> None:
        try:
            self._take(pair)
        except Exception as error:  # the next pair may do better
            if self._open:
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
        while self._open:
            try:
                datagram, sender = self._socket.recvfrom(_DATAGRAM)
            except BlockingIOError:
                if not self._was_full:
                    return
                # Only now: until all is read the kernel drops further notifications, and does not say so again.
                self._names.clear()
                there = self._existing()
                self._was_full = False
                _log.warning(
                    "notifications of pairs that came to %s were lost, so its pairs were listed anew: any that came and"
                    " went meanwhile were not watched",
                    self._netns,
                )
                yield from there
                continue
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._was_full = True
                continue
            if sender[0] == 0:
                for ifindex in self._changed(datagram):
                    if (pair := self._open_pair(ifindex)) is not None:
                        yield pair

    def _open_pair(self, ifindex: int) -> NetkitPair | None:
        try:
            return open_by_primary(ifindex, self._netns)
        except OSError as error:
            _log.warning("device %d of %s is not watched: %s", ifindex, self._netns, error)
            return None

    def _changed(self, datagram: bytes) -> Iterator[int]:
        """The numbers of the devices that are new, or have a new name."""
        at = 0
        while at + _MESSAGE.size + _DEVICE.size <= len(datagram):
            length, kind, *_ = _MESSAGE.unpack_from(datagram, at)
            family, _, ifindex, _, _ = _DEVICE.unpack_from(datagram, at + _MESSAGE.size)
            if kind == _DELLINK and family == socket.AF_UNSPEC:
                self._names.pop(ifindex, None)
            elif kind == _NEWLINK and family == socket.AF_UNSPEC:
                name = _name(datagram[at + _MESSAGE.size + _DEVICE.size : at + length])
                if self._names.get(ifindex) != name:
                    self._names[ifindex] = name
                    yield ifindex
            at += max(length + 3 & ~3, _MESSAGE.size)


def _name(attributes: bytes) -> str:
    at = 0
    while at + _ATTRIBUTE.size <= len(attributes):
        length, kind = _ATTRIBUTE.unpack_from(attributes, at)
        if kind == _IFNAME:
            return os.fsdecode(attributes[at + _ATTRIBUTE.size : at + length].rstrip(b"\0"))
        at += max(length + 3 & ~3, _ATTRIBUTE.size)
    return ""
