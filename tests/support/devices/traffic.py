"""Real traffic over a pair, made in this process with sockets, and what it must look like to a monitor."""

from __future__ import annotations

import errno
import socket
import struct
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from netkit_bpf import Monitor, NetkitPair, NetNS, PacketEvent, Side

TIMEOUT = 20.0  # of a socket: far longer than anything takes, even in an emulated machine
ECHO = {4: (8, 0), 6: (128, 129)}  # ICMP types of request and reply
SYN, ACK, FIN = 0x02, 0x10, 0x01


@dataclass
class End:
    """One end of a wire: where its sockets are born, its address, and the scope of a link-local one."""

    netns: NetNS
    address: str
    scope_id: int = 0

    @property
    def ip(self) -> IPv4Address | IPv6Address:
        return ip_address(self.address)

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if self.ip.version == 6 else socket.AF_INET

    def name(self, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
        """The socket address; the scope is that of the end that uses it."""
        return (self.address, port) if self.ip.version == 4 else (self.address, port, 0, self.scope_id)

    def socket(self, kind: int, protocol: int = 0) -> socket.socket:
        made = self.netns.socket(self.family, kind, protocol)
        made.settimeout(TIMEOUT)
        return made


@dataclass
class Wire:
    """A pair with an address at each end; `left` is the primary's."""

    pair: NetkitPair
    left: End
    right: End

    def seen_from(self, side: Side) -> tuple[End, End]:
        """The sender and the receiver of what this side's hook sees."""
        return (self.left, self.right) if side is Side.PRIMARY else (self.right, self.left)


def towards(sender: End, receiver: End, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """The receiver's socket address as the sender writes it: with its own scope."""
    return End(sender.netns, receiver.address, sender.scope_id).name(port)


def ping(sender: End, receiver: End, sizes: Iterable[int], *, hop_limit: int = 64, timeout: float = TIMEOUT) -> int:
    """Send an echo request of each payload size and wait for its reply; returns how many came back."""
    version = sender.ip.version
    request, reply = ECHO[version]
    protocol = socket.IPPROTO_ICMPV6 if version == 6 else socket.IPPROTO_ICMP
    answered: int = 0
    with sender.socket(socket.SOCK_RAW, protocol) as raw:
        raw.settimeout(timeout)
        if version == 6:
            raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hop_limit)
        else:
            raw.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hop_limit)
        raw.bind(sender.name(0))
        for sequence, size in enumerate(sizes):
            message = struct.pack("!BBHHH", request, 0, 0, 0x6E6B, sequence) + bytes(size)
            if version == 4:  # the kernel does it for ICMPv6
                message = message[:2] + struct.pack("!H", _checksum(message)) + message[4:]
            try:
                raw.sendto(message, towards(sender, receiver, 0))
                while True:
                    data = raw.recv(65535)
                    if version == 4:
                        data = data[(data[0] & 15) * 4 :]
                    if data[0] == reply and data[4:8] == message[4:8]:
                        answered += 1
                        break
            except TimeoutError:
                pass
            except OSError as error:  # the sender is told of a packet that is dropped at its own hook
                if error.errno != errno.ENOBUFS:
                    raise
    return answered


def send_datagrams(sender: End, receiver: End, sizes: Iterable[int]) -> tuple[int, int]:
    """Send a UDP datagram of each size and wait until it has arrived; returns both ports."""
    with sender.socket(socket.SOCK_DGRAM) as out, receiver.socket(socket.SOCK_DGRAM) as into:
        out.bind(sender.name(0))
        into.bind(receiver.name(0))
        for size in sizes:
            out.sendto(bytes(size), towards(sender, receiver, into.getsockname()[1]))
            assert len(into.recv(65535)) == size
        ports: tuple[int, int] = out.getsockname()[1], into.getsockname()[1]
        return ports


def connect_and_send(client: End, server: End, amount: int) -> tuple[int, int]:
    """Open a TCP connection, send `amount` bytes, close it at both ends; returns both ports."""
    received = 0
    with server.socket(socket.SOCK_STREAM) as listener:
        listener.bind(server.name(0))
        listener.listen()
        with client.socket(socket.SOCK_STREAM) as out:
            out.bind(client.name(0))
            out.connect(towards(client, server, listener.getsockname()[1]))
            into, _ = listener.accept()
            into.settimeout(TIMEOUT)
            ports = out.getsockname()[1], listener.getsockname()[1]

            def send() -> None:
                out.sendall(bytes(amount))
                out.shutdown(socket.SHUT_WR)

            thread = threading.Thread(target=send)
            thread.start()
            with into:
                while chunk := into.recv(1 << 16):
                    received += len(chunk)
            thread.join()
            assert out.recv(1) == b""  # the server's FIN
    assert received == amount
    return ports


def collect(monitor: Monitor, silence: float = 0.5) -> list[PacketEvent]:
    """All events until nothing comes any more; the account must be exact then."""
    events = list(monitor.events(timeout=silence))
    for side in monitor.stats:
        assert side.seen == side.delivered + side.lost + side.pending
    return events


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total
