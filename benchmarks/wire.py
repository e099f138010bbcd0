"""A pair to attach to: netkit where the kernel has it, else veth, whose tcx hooks take the same programs."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator

from netkit_bpf import Device, NetkitPair, NetNS, NotSupportedError


@contextlib.contextmanager
def pair() -> Iterator[NetkitPair]:
    """A pair in a namespace of its own, down, so that nobody but the producer sends anything."""
    with NetNS.create() as netns:
        try:
            made = NetkitPair.create("nk0", netns=netns, up=False)
        except NotSupportedError:
            netns.run(["ip", "link", "add", "nk0", "type", "veth", "peer", "name", "nk0p"], check=True)
            numbers = netns.call(_numbers)
            made = NetkitPair(Device(numbers["nk0"], "nk0", netns), Device(numbers["nk0p"], "nk0p", netns), owned=True)
        with made:
            yield made


def _numbers() -> dict[str, int]:
    import socket

    return {name: number for number, name in socket.if_nameindex()}


def ip_batch(lines: list[str]) -> None:
    """Run ip -batch on these lines."""
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True)
