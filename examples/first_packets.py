"""Three pings across a netkit pair, and every packet that crossed it. Needs root and a kernel with netkit."""

import netkit_bpf as nk

with nk.NetNS.create() as ns, nk.NetkitPair.create("nk0", peer_netns=ns) as pair:
    pair.primary.add_address("fd00::1/64")
    pair.peer.add_address("fd00::2/64")
    with nk.Monitor(pair) as monitor:  # attached on entry, detached on exit
        ns.run(["ping", "-q", "-c3", "-i0.2", "fd00::1"])
        for event in monitor.events(timeout=1.0):  # ends after 1 s of silence
            print(event)
        print(monitor.stats)  # seen == delivered + lost + pending, on each side
