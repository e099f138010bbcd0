"""Count who talks to whom over a pair, flow by flow, and add it up. Needs root and netkit."""

import socket

import netkit_bpf as nk


def serve(container: nk.NetNS) -> socket.socket:
    """Listen inside the container."""
    service = container.socket(socket.AF_INET6, socket.SOCK_STREAM)
    service.bind(("fd00::2", 8080))
    service.listen()
    return service


def talk(service: socket.socket) -> None:
    """Ask, and be given a megabyte."""
    with socket.create_connection(("fd00::2", 8080)) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        server, _ = service.accept()
        with server:
            server.recv(4096)
            server.setblocking(False)
            left = 1 << 20
            while left:
                try:
                    left -= server.send(bytes(left))
                except BlockingIOError:
                    client.recv(1 << 20)


def main() -> None:
    """Make a container with a service, use it, and tell what that was."""
    with nk.NetNS.create() as container, nk.NetkitPair.create("nkw0", peer_netns=container) as pair:
        pair.primary.add_address("fd00::1/64")
        pair.peer.add_address("fd00::2/64")
        pair.peer.wait_ready()
        with serve(container) as service, nk.FlowMetrics(pair) as metrics:
            before = metrics.snapshot()
            talk(service)
            table = metrics.snapshot().since(before)

        for flow in table.top(4):
            print(flow)  # [peer] tcp [fd00::2]:8080 -> [fd00::1]:40000: 735 packets 1053530 bytes
            if flow.handshake_ns is not None:
                print(f"    handshake {flow.handshake_ns / 1e6:.3f} ms, {flow.packets} packets in {flow.skbs} skbs")
        for (side, protocol), count in table.by("side", "protocol").items():
            print(f"{side} {protocol!s}: {count.packets} packets, {count.bytes} bytes")
        for network, count in table.by("src/64").items():
            print(f"from {network}: {count.flows} flows")


if __name__ == "__main__":
    main()
