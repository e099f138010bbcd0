"""A packet on its way to a backend, and a reply; beside what others do, and what nobody can do without."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from netkit_bpf import BPFObject, MaglevTable, Program
from netkit_bpf.functions.balancer_programs import load_balancer, publish

VIP, PORT = ipaddress.IPv4Address("192.0.2.80"), 80
LOOPBACK = 1  # its ifindex: nothing is sent in a test run
NO_MACS = (bytes(6), bytes(6))
FLOWS = 1024
REPEAT = 100_000
WARM = 3
SYN, ACK = 0x02, 0x10


def measure(build: Path) -> Iterator[tuple[str, float]]:
    """Nanoseconds a packet, net of an empty program.

    A test run goes on with the packet as the last run left it. So the backend has the virtual address and port: all of
    the work is done, and the packet stays what it was.
    """
    data = packet(0, ACK)
    with BPFObject.open(build / "empty.o") as empty:
        base = cost(empty.programs["empty"], data)
    peers = BPFObject.open(build / "redirect.o")
    peers.variables["address"].value = VIP
    peers.variables["port"].value = PORT
    with peers:
        yield "balancer: bpf_redirect alone, ns", cost(peers.programs["redirect"], data) - base
        yield "balancer: DNAT by helpers alone, ns", cost(peers.programs["by_helpers"], data) - base
    for mode in ("dsr", "nat"):
        with load_balancer(VIP, PORT, "tcp", mode, clients=(LOOPBACK, NO_MACS)) as obj:
            obj.maps["backends"][0] = (VIP.packed.ljust(16, b"\0"), LOOPBACK, PORT, 1, 0, 0, NO_MACS, 1)
            publish(obj, MaglevTable(["the only one"]).tobytes())
            client = obj.programs["balancer_client"]
            yield f"balancer: {mode}, ns", cost(client, data) - base
            yield f"balancer: {mode}, a reply, ns", cost(obj.programs["balancer_backend"], packet(0, ACK, True)) - base
            yield f"balancer: {mode}, of another service, ns", cost(client, packet(0, ACK, port=PORT + 1)) - base
            flows = [packet(flow, SYN) for flow in range(FLOWS)]
            yield f"balancer: {mode}, a new connection, ns", median(run(client, each, 1) for each in flows[1:])


def packet(flow: int, flags: int, is_reply: bool = False, port: int = PORT) -> bytes:
    """A TCP segment of a client, or to it."""
    client = ipaddress.IPv4Address(f"10.0.{flow >> 8}.{flow & 255}")
    ports = (4000, port)
    src, dst = (VIP, client) if is_reply else (client, VIP)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40 + 64, 0, 0, 64, 6, 0, src.packed, dst.packed)
    tcp = struct.pack("!HHIIBBHHH", *(reversed(ports) if is_reply else ports), 0, 0, 0x50, flags, 65535, 0, 0)
    return bytes(12) + b"\x08\0" + ip + tcp + bytes(64)


def cost(program: Program, data: bytes) -> float:
    """The quickest of some runs."""
    return min(run(program, data, REPEAT) for _ in range(WARM))


def run(program: Program, data: bytes, repeat: int) -> float:
    """Nanoseconds a run."""
    return program.test_run(data, repeat=repeat).duration_ns
