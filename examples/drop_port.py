"""Drop a container's connections to one TCP port, then switch live to another port. Needs root, clang and netkit."""

import socket

import netkit_bpf as nk

SOURCE = """
#include <netkit.h>

static int drop(struct __sk_buff *skb, __u16 port)
{
	struct iphdr ip;
	struct tcphdr tcp;

	if (skb->protocol != bpf_htons(ETH_P_IP) || bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
		return NETKIT_NEXT;
	if (ip.protocol != IPPROTO_TCP || bpf_skb_load_bytes(skb, ETH_HLEN + ip.ihl * 4, &tcp, sizeof(tcp)))
		return NETKIT_NEXT;
	return tcp.dest == bpf_htons(port) ? NETKIT_DROP : NETKIT_NEXT;
}

SEC("netkit/peer")
int drop_12345(struct __sk_buff *skb)
{
	return drop(skb, 12345);
}

SEC("netkit/peer")
int drop_12346(struct __sk_buff *skb)
{
	return drop(skb, 12346);
}
"""

PORTS = 12345, 12346


def reachable(container: nk.NetNS, server: str) -> list[int]:
    """Return the ports to which the container can connect."""
    found = []
    for port in PORTS:
        with container.socket(socket.AF_INET) as client:
            client.settimeout(1.0)
            try:
                client.connect((server, port))
            except TimeoutError:
                continue
            found.append(port)
    return found


def drop_one_then_the_other(
    obj: nk.BPFObject, pair: nk.NetkitPair, host: nk.NetNS, container: nk.NetNS, server: str
) -> list[list[int]]:
    """Return what is reachable with no program, with the first, with the second in its place, and afterwards."""
    found = []
    with host.socket(socket.AF_INET) as first, host.socket(socket.AF_INET) as second:
        for listener, port in zip((first, second), PORTS, strict=True):
            listener.bind((server, port))
            listener.listen()
        found.append(reachable(container, server))
        with pair.attach(obj.programs["drop_12345"], "peer") as link:  # the peer hook: what the container sends
            found.append(reachable(container, server))
            link.update(obj.programs["drop_12346"])  # no packet passes unfiltered meanwhile
            found.append(reachable(container, server))
        found.append(reachable(container, server))
    return found


def main() -> None:
    """Run the example on a new pair."""
    with nk.NetNS.create() as container, nk.NetkitPair.create("nk0", peer_netns=container) as pair:
        pair.primary.add_address("10.42.0.1/24")
        pair.peer.add_address("10.42.0.2/24")
        with nk.BPFObject.compile(SOURCE) as obj:
            found = drop_one_then_the_other(obj, pair, nk.NetNS.current(), container, "10.42.0.1")
        for when, ports in zip(("no program", "drop_12345", "drop_12346", "detached"), found, strict=True):
            print(f"{when}: the container reaches {ports}")


if __name__ == "__main__":
    main()
