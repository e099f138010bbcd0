"""Opens and loads damaged object files: mutate_object.py OBJECT PIN_ROOT PROGRESS SEED COUNT.

A separate process, so that a death by a signal can be detected. Errors must be of the documented types; memory and
descriptors must not grow. The number of the current mutation is kept in the file PROGRESS.
"""

from __future__ import annotations

import collections
import logging
import os
import random
import resource
import signal
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from netkit_bpf import BPFObject

STEP = 64  # bytes between truncations
TYPED = (OSError, ValueError, TypeError, LookupError, OverflowError)
LARGEST = 1 << 24  # bytes of a map or section that is loaded: the machine has other work
SECONDS = 60  # for one object
MOST_GROWTH = 24 << 20  # bytes; what the allocator keeps
INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF8)


def truncations(image: bytes) -> Iterator[bytes]:
    """The file cut at every 64th byte."""
    return (image[:size] for size in range(0, len(image), STEP))


def places(image: bytes) -> list[range]:
    """The parts that a loader reads: the headers, and each section that is not only for debuggers."""
    start, count, names = (*struct.unpack_from("=Q", image, 40), *struct.unpack_from("=HH", image, 60))
    headers = [struct.unpack_from("=IIQQQQ", image, start + 64 * index) for index in range(count)]
    texts = image[headers[names][4] :]
    found = [range(64), range(start, start + 64 * count)]
    for name, kind, _, _, offset, size in headers:
        text = texts[name : texts.index(b"\0", name)]
        if kind not in (0, 8) and size and b".debug" not in text:
            found.append(range(offset, offset + size))
    return found


def mutation(image: bytes, within: list[range], rng: random.Random) -> bytes:
    """The file with some of its bytes changed: all parts of it alike, however large."""
    damaged = bytearray(image)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.choice(rng.choice(within))
        word = at // 4 * 4
        how = rng.randrange(6)
        if how == 0:
            damaged[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            damaged[at] = rng.randrange(256)
        elif how == 2:
            damaged[word : word + 4] = struct.pack("=I", rng.choice(INTERESTING))
        elif how == 3:
            wide = at // 8 * 8
            damaged[wide : wide + 8] = struct.pack("=Q", -8 * rng.randrange(64) % (1 << 64))
        elif how == 4:
            value = int.from_bytes(damaged[word : word + 4], sys.byteorder) + rng.choice((-8, -1, 1, 8))
            damaged[word : word + 4] = struct.pack("=I", value & 0xFFFFFFFF)
        else:
            source = rng.choice(rng.choice(within))
            size = rng.choice((4, 8, 16, 64))
            damaged[at : at + size] = damaged[source : source + size]
    return bytes(damaged)


def is_huge(image: bytes, obj: BPFObject) -> bool:
    """Whether loading would take much memory, which the kernel would grant."""
    start, count = struct.unpack_from("=Q", image, 40)[0], struct.unpack_from("=H", image, 60)[0]
    sizes = (struct.unpack_from("=Q", image, start + 64 * index + 32)[0] for index in range(count))
    return any(size > LARGEST for size in sizes) or any(
        each.max_entries * (each.key_size + each.value_size + 64) > LARGEST for each in obj.maps.values()
    )


def use(image: bytes, pin_root: Path) -> str:
    """Open, look at everything, load; return how far it went."""
    obj = BPFObject.open(image, pin_root=pin_root)
    try:
        for variable in obj.variables.values():
            variable.value = variable.value
        if is_huge(image, obj):
            return "opened, too large to load"
        obj.load()
        for program in obj.programs.values():
            repr(program)
        for each in obj.maps.values():
            repr(each)
        repr(dict(obj.variables))
    finally:
        obj.close()
    return "loaded"


def memory() -> int:
    """The most bytes that the process has had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Go through all truncations and as many mutations as asked for; print what became of them."""
    path, pin_root, progress, seed, count = sys.argv[1:]
    image = Path(path).read_bytes()
    within = places(image)
    logging.disable()
    reported = os.open(progress, os.O_WRONLY | os.O_CREAT, 0o600)
    outcomes: collections.Counter[str] = collections.Counter()
    settled = 0
    for number in range(int(count)):
        os.pwrite(reported, b"%10d" % number, 0)
        signal.alarm(SECONDS)
        rng = random.Random(f"{seed}:{number}")
        damaged = list(truncations(image)) if number == 0 else [mutation(image, within, rng)]
        for each in damaged:
            try:
                outcomes[use(each, pin_root=Path(pin_root))] += 1
            except TYPED as error:
                outcomes[type(error).__name__] += 1
        if number == int(count) // 4:
            settled, fds = memory(), len(os.listdir("/proc/self/fd"))
    assert len(os.listdir("/proc/self/fd")) == fds, "descriptors are left"
    assert memory() - settled < MOST_GROWTH, f"memory grew from {settled} to {memory()} bytes"
    print(dict(outcomes.most_common()))


if __name__ == "__main__":
    main()
