# SPDX-License-Identifier: MIT
"""netkit pairs for helpers that take any kind of pair."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from netkit_bpf import NetkitPair, NetNS
from traffic import End, Wire


def makes(mode: str) -> Callable[[NetNS, NetNS, str], AbstractContextManager[NetkitPair]]:
    """A function that makes a pair of this mode between two namespaces."""

    @contextlib.contextmanager
    def make(here: NetNS, there: NetNS, name: str) -> Iterator[NetkitPair]:
        with NetkitPair.create(name, mode=mode, netns=here, peer_netns=there) as pair:
            yield pair

    return make


@contextlib.contextmanager
def pinnable_wire(place: str) -> Iterator[Wire]:
    """A pair in a namespace of that name, for a command, and a BPF file system where that pins."""
    subprocess.run(["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"], check=True)
    with NetNS.create(place) as here, NetNS.create() as there:
        with NetkitPair.create("nk0", netns=here, peer_netns=there) as pair:
            pair.primary.add_address("fd00::1/64")
            pair.peer.add_address("fd00::2/64")
            yield Wire(pair, End(here, "fd00::1"), End(there, "fd00::2"))
    subprocess.run(["umount", "/sys/fs/bpf"], check=True)
