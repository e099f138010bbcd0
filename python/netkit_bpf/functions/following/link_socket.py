# SPDX-License-Identifier: MIT
"""What becomes of the devices of a namespace: rtnetlink(7), group RTNLGRP_LINK."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from netkit_bpf.devices.netns import NetNS

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


class LinkNews(NamedTuple):
    """Something that happened to a device.

    Attributes:
        ifindex: its number.
        name: its name, after that.
        is_gone: whether it was deleted or left the namespace. Else it came or was changed.
    """

    ifindex: int
    name: str
    is_gone: bool


class LinkSocket:
    """Hears of the devices of a namespace, which it keeps alive. One thread reads, and closes it; any may stop it.

    Args:
        netns: the namespace.

    Raises:
        OSError: EMFILE, there can be no more descriptors.
    """

    def __init__(self, netns: NetNS) -> None:
        self._process = os.getpid()
        self._open = [True]  # emptied by the first who stops it
        self._was_full = False  # the kernel dropped notifications, and the devices were not looked at since
        with contextlib.ExitStack() as undo:
            self._socket = undo.enter_context(netns.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE))
            self._socket.setblocking(False)
            with contextlib.suppress(OSError):  # CAP_NET_ADMIN in the initial user namespace is missing
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
            self._socket.connect((0, 0))  # so that only the kernel can write to it
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_LINK)
            self._stopping = [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)]
            undo.pop_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Sleep until there may be something to read, or for so many seconds; False once it is stopped."""
        if self._open:
            waiting = select.poll()
            waiting.register(self._socket, select.POLLIN)
            waiting.register(self._stopping[0], select.POLLIN)
            waiting.poll(None if timeout is None else timeout * 1000)
        return bool(self._open)

    def read(self) -> Iterator[LinkNews | None]:
        """What has happened. None stands for what was lost, because nobody read in time: all may be otherwise."""
        while self._open:
            try:
                datagram, sender = self._socket.recvfrom(_DATAGRAM)
            except BlockingIOError:
                if not self._was_full:
                    return
                # Only now: until all is read the kernel drops further notifications, and does not say so again.
                yield None
                self._was_full = False
                continue
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._was_full = True
                continue
            if sender[0] == 0:
                yield from _news(datagram)

    @property
    def stopped(self) -> bool:
        """Whether nothing is read any more."""
        return not self._open

    def stop(self) -> bool:
        """Wake who waits: nothing is read from now on. Whether this was the first call."""
        try:
            self._open.pop()
        except IndexError:
            return False
        if os.getpid() == self._process:  # the parent of a fork has the same descriptor
            os.eventfd_write(self._stopping[0], 1)
        return True

    def close(self) -> None:
        """Let go of the descriptors, once it is stopped and nobody waits. Idempotent."""
        try:
            stopping = self._stopping.pop()
        except IndexError:
            return
        self._socket.close()
        os.close(stopping)


def _news(datagram: bytes) -> Iterator[LinkNews]:
    at = 0
    while at + _MESSAGE.size + _DEVICE.size <= len(datagram):
        length, kind, *_ = _MESSAGE.unpack_from(datagram, at)
        family, _, ifindex, _, _ = _DEVICE.unpack_from(datagram, at + _MESSAGE.size)
        if kind in (_NEWLINK, _DELLINK) and family == socket.AF_UNSPEC:
            name = _name(datagram[at + _MESSAGE.size + _DEVICE.size : at + length])
            yield LinkNews(ifindex, name, kind == _DELLINK)
        at += max(length + 3 & ~3, _MESSAGE.size)


def _name(attributes: bytes) -> str:
    at = 0
    while at + _ATTRIBUTE.size <= len(attributes):
        length, kind = _ATTRIBUTE.unpack_from(attributes, at)
        if kind == _IFNAME:
            return os.fsdecode(attributes[at + _ATTRIBUTE.size : at + length].rstrip(b"\0"))
        at += max(length + 3 & ~3, _ATTRIBUTE.size)
    return ""
