"""One address, five servers of different strength; one of them is taken out of service. Needs root and netkit."""

import contextlib
import socket
import threading
from collections import Counter

import netkit_bpf as nk

VIP, PORT = "fd00:80::80", 80


def serve(listener: socket.socket, name: str) -> None:
    """Tell everybody who connects which server this is."""
    with contextlib.suppress(OSError):  # until the listener is shut down
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(name.encode())


def ask(client: nk.NetNS, times: int) -> dict[str, int]:
    """Count which servers answer."""
    answers: Counter[str] = Counter()
    for _ in range(times):
        with client.socket(socket.AF_INET6, socket.SOCK_STREAM) as connection:
            connection.connect((VIP, PORT))
            answers[connection.recv(16).decode()] += 1
    return dict(sorted(answers.items()))


def main() -> None:
    """Make a client and five servers, each in a namespace, and balance the client's connections over them."""
    with contextlib.ExitStack() as undo:
        host, client = (undo.enter_context(nk.NetNS.create()) for _ in range(2))
        clients = undo.enter_context(nk.NetkitPair.create("clients", netns=host, peer_netns=client))
        clients.primary.add_address("fd00::1/64")
        clients.peer.add_address("fd00::2/64")
        clients.peer.add_route(f"{VIP}/128", via="fd00::1")  # nobody has this address

        weights: dict[nk.NetkitPair, int] = {}
        for number in range(1, 6):
            server = undo.enter_context(nk.NetNS.create())
            pair = undo.enter_context(nk.NetkitPair.create(f"web{number}", netns=host, peer_netns=server))
            pair.primary.add_address(f"fd00:{number}::1/64")
            pair.peer.add_address(f"fd00:{number}::2/64")
            pair.peer.add_route("::/0", via=f"fd00:{number}::1")
            listener = undo.enter_context(server.socket(socket.AF_INET6, socket.SOCK_STREAM))
            listener.bind((f"fd00:{number}::2", PORT))
            listener.listen()
            thread = threading.Thread(target=serve, args=(listener, f"web{number}"))
            thread.start()
            undo.callback(thread.join)
            undo.callback(listener.shutdown, socket.SHUT_RDWR)
            weights[pair] = number

        balancer = undo.enter_context(nk.LoadBalancer(clients, VIP, PORT, backends=weights))
        print(ask(client, 60))  # {'web1': 4, 'web2': 8, 'web3': 12, 'web4': 16, 'web5': 20}, more or less
        balancer.drain(list(weights)[4])
        print(ask(client, 60))  # without web5
        for each in balancer.backends:
            print(f"{each.name} {each.state:8} {each.share:4.0%} {each.connections} connections {each.packets} packets")


if __name__ == "__main__":
    main()
