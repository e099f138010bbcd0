"""What check and aarch64 run where only Python and the wheel are: prints what each step took, or what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

began = time.monotonic()


def say(text: str) -> None:
    print(f"  {time.monotonic() - began:5.1f} s  {text}")


import netkit_bpf as nk  # noqa: E402 - its time counts

say(f"import, in Python {sys.version.split()[0]} at {Path(nk.__file__).parent}")
print("  ", nk.Filter("tcp port 80"), nk.Filter("host fd00::1 and icmp6"), "compiled")

done = subprocess.run(
    [str(Path(sys.executable).with_name("netkit-bpf")), "doctor"], capture_output=True, text=True, check=False
)
print(done.stdout, done.stderr, end="", sep="")
said = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines()}
assert said["libpcap"] == "ok", "the libpcap of the wheel is not found"
assert said["clang"] == "no", "this machine has clang: it shows nothing"
release = tuple(int(number) for number in os.uname().release.split("-")[0].split(".")[:2])
assert said["kernel"] == ("ok" if release >= (6, 7) else "missing"), "the kernel is misjudged"
assert done.returncode == (0 if all(said[item] == "ok" for item in ("kernel", "privilege", "netkit", "BPF")) else 1)
say("doctor")

if said["BPF"] == "ok":
    with nk.BPFObject.open(Path(nk.__file__).parent / "metrics.bpf.o") as metrics:
        for name, program in metrics.programs.items():
            run = program.test_run(bytes(12) + b"\x86\xdd" + bytes(40))
            print(f"   {name}: {run.verdict!r}")
    say("test_run of the programs for metrics")

if said["netkit"] == said["BPF"] == "ok":
    with nk.NetNS.create() as netns, nk.NetkitPair.create("nk0", peer_netns=netns) as pair:
        pair.primary.add_address("fd00::1/64")
        pair.peer.add_address("fd00::2/64")
        with nk.Monitor(pair, filter="udp port 9") as monitor:
            sends = "import socket; socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b'four', ('fd00::1', 9))"
            netns.run([sys.executable, "-c", sends])
            (event,) = monitor.events(timeout=1.0)
    print("  ", event)
    assert (str(event.src), str(event.dst), event.dst_port) == ("fd00::2", "fd00::1", 9)
    say("a monitor of a netkit pair")
