"""Block a service of a container by rules, watch what is left, and change the rules live. Needs root and netkit."""

import socket

import netkit_bpf as nk

RULES = """
web = { 80, 443 }
table <office> { 192.0.2.0/24, fd00::1 }

pass tcp from <office> to any port $web
drop primary tcp from any to fd00::2 port 12345 label "blocked"
"""


def reachable(container: str, port: int) -> bool:
    """Return whether a process outside can connect to a port of the container."""
    try:
        with socket.create_connection((container, port), timeout=0.5):
            return True
    except OSError:
        return False


def main() -> None:
    """Make a container with a service on two ports, block one, and block none again."""
    with nk.NetNS.create() as container, nk.NetkitPair.create("nkf0", peer_netns=container) as pair:
        pair.primary.add_address("fd00::1/64")
        pair.peer.add_address("fd00::2/64")
        pair.peer.wait_ready()
        services = [container.socket(socket.AF_INET6, socket.SOCK_STREAM) for _ in range(2)]
        for service, port in zip(services, (12345, 12346), strict=True):
            service.bind(("fd00::2", port))
            service.listen()
        with nk.Firewall(pair, RULES) as firewall:
            print({port: reachable("fd00::2", port) for port in (12345, 12346)})  # {12345: False, 12346: True}
            for rule, count in firewall.counters.items():
                print(f"{count.packets:4} packets {count.bytes:6} bytes  {rule}")
            firewall.replace("drop icmp6 from any to any icmp-type echoreq")
            print({port: reachable("fd00::2", port) for port in (12345, 12346)})  # {12345: True, 12346: True}
        for service in services:
            service.close()


if __name__ == "__main__":
    main()
