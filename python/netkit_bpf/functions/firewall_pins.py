# SPDX-License-Identifier: MIT
"""A firewall on a BPF file system, by which it outlives its process and other processes find it.

Its directory has the map `firewall`, which comes first and goes last: a directory that has other things without it is
somebody else's, and is left alone. It has the links, `primary` and `peer`, and the map `shared`, which says what
generation of its rules is in force. Without it, or where it says that none is, all is what a killed process left. The
directory of that generation, `1`, has the maps of its programs and `ruleset`: the rules as a text and what they had
counted before. Another generation's is what a process left that was killed while it replaced the rules: nothing of it
is in force, and the next replacement removes it. `past` has the rulesets that were replaced last: events that wait to
be read may name their rules.

A process that reads or changes any of it has the directory locked by flock(2), which ends with the process.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from netkit_bpf.bpf.hook import Link
from netkit_bpf.bpf.map import Map
from netkit_bpf.devices.pair import NetkitPair
from netkit_bpf.enums import Side, Verdict
from netkit_bpf.internal.proc import is_on_bpffs

IN_FORCE = 0  # enum nk_fw_shared, <netkit_bpf/firewall.h>
FIREWALLS = Path("/sys/fs/bpf/netkit-bpf/firewall")
_FORMAT = 2  # of what is pinned
NOT_YET = -1  # the generation in force where none is
_MOST_PAST = 16
_MARK = "firewall"
_COUNT_SIZE = len("18446744073709551615, ")


class PinnedRules(NamedTuple):
    """What is in `ruleset`."""

    default: Verdict
    log_default: bool
    text: str
    counted: Sequence[int]  # packets and bytes of each rule, and what is counted behind them


def default_path(pair: NetkitPair) -> Path:
    """Where a pair's firewall is pinned unless it is said: by the inode of the primary's namespace, and its number."""
    primary = pair.primary
    return FIREWALLS / f"{os.fstat(primary.netns.fileno()).st_ino}-{primary.ifindex}"


class FirewallPins:
    """The directory of a firewall. What it does to it, it does under `locked`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def made(self) -> Iterator[None]:
        """Make the directory; on any failure remove it and what was put there."""
        with self.claimed() as is_in_force:
            if is_in_force:
                advice = "Firewall.open_pinned() opens it, netkit-bpf fw flush removes it"
                raise FileExistsError(errno.EEXIST, f"a firewall is pinned there: {advice}", str(self.path))
            yield

    @contextlib.contextmanager
    def claimed(self) -> Iterator[bool]:
        """Have the directory, made if it is missing, and tell whether it has a firewall that is in force.

        If not, it has nothing but what says that it is a firewall's, and on any failure that is removed, with all that
        came after it.
        """
        with contextlib.ExitStack() as held:
            is_held = is_made = False
            while not is_held:
                is_made = self._make()
                with contextlib.suppress(FileNotFoundError):  # who had it has removed it
                    held.enter_context(self.locked())
                    is_held = True
            is_in_force = self._is_in_force()
            try:
                if not is_in_force:
                    self._begin()
                yield is_in_force
            except BaseException:
                if not is_in_force and self._is_a_firewalls():
                    self._empty()
                    if is_made:
                        self.path.rmdir()
                raise

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Wait until nobody else has the directory, and have it."""
        try:
            held = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise self.missing() from error
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            if not self._is(held):
                raise self.missing()
            yield
        finally:
            os.close(held)

    def links(self) -> dict[Side, Link]:
        """The links, opened."""
        return {side: Link.open_pinned(self.path / side) for side in Side if (self.path / side).exists()}

    def in_force(self) -> int:
        """Which generation is in force; NOT_YET if none is."""
        if not (self.path / "shared").exists():
            return NOT_YET
        with Map.open_pinned(self.path / "shared") as shared:
            return int(shared[IN_FORCE])

    def generations(self) -> list[int]:
        """Those that there is something of."""
        return [int(each.name) for each in self.path.iterdir() if each.name.isdecimal()]

    def keep(self, generation: int, maps: Mapping[str, Map], rules: PinnedRules) -> None:
        """Pin the maps of a generation, with its rules."""
        place = self.path / str(generation)
        place.mkdir(mode=0o700)
        data = _encode(rules)
        size = len(data) + _COUNT_SIZE * len(rules.counted)
        with Map.create("array", value_size=size, key_size=4, max_entries=1, name="ruleset") as kept:
            kept[0] = data.ljust(size)
            kept.pin(place / "ruleset")
        for name, each in maps.items():
            if not each.autocreate:
                continue
            if name != "shared":
                each.pin(place / name)

    def finish(self, shared: Map) -> None:
        """Pin what says which generation is in force, when all the rest is there."""
        shared.pin(self.path / "shared")

    def update(self, generation: int, rules: PinnedRules) -> None:
        """Write down anew what the rules of a generation had counted before."""
        with Map.open_pinned(self.path / str(generation) / "ruleset") as kept:
            kept[0] = _encode(rules).ljust(kept.value_size)

    def rules(self, generation: int) -> PinnedRules:
        """The rules of a generation."""
        found = _decode(self.path / str(generation) / "ruleset")
        if found["format"] != _FORMAT:
            advice = "remove it with that one, or remove the directory"
            raise ValueError(f"{self.path} was pinned by another version of netkit-bpf: {advice}")
        return PinnedRules(Verdict(found["default"]), found["log_default"], found["rules"], found["counted"])

    def maps(self, generation: int) -> dict[str, Map]:
        """The maps of a generation by name, opened, with what is shared."""
        places = [*(self.path / str(generation)).iterdir(), self.path / "shared"]
        return {place.name: Map.open_pinned(place) for place in places if place.name != "ruleset"}

    def drop(self, generation: int) -> None:
        """Remove what there is of a generation."""
        shutil.rmtree(self.path / str(generation), ignore_errors=True)

    def retire(self, generation: int) -> None:
        """Remove what there is of a generation; of one that makes events keep the rules for a while."""
        place, past = self.path / str(generation), self.path / "past"
        if (place / "verdicts").exists():
            past.mkdir(mode=0o700, exist_ok=True)
            (place / "ruleset").rename(past / str(generation))
            for each in sorted(past.iterdir(), key=lambda path: int(path.name))[:-_MOST_PAST]:
                each.unlink()
        self.drop(generation)

    def past_rules(self, generation: int) -> str | None:
        """The rules of a generation that is in force or was, as far as they are kept."""
        with contextlib.suppress(FileNotFoundError), self.locked():
            for place in (self.path / str(generation) / "ruleset", self.path / "past" / str(generation)):
                if place.exists():
                    return str(_decode(place)["rules"])
        return None

    def remove(self) -> None:
        """Remove all of it: what nobody else holds is gone then, links first."""
        self._empty()
        self.path.rmdir()

    def is_left_behind(self, *, remove: bool) -> bool:
        """Whether nothing of it is in force, because its pair is gone or its process was killed; removed if told to."""
        with self.locked():
            if self._is_in_force() or not self._is_a_firewalls():
                return False
            if remove:
                self.remove()
            return True

    def _make(self) -> bool:
        """Make the directory; False if it is there already."""
        if not is_on_bpffs(self.path):
            raise OSError(errno.EINVAL, "it is not on a BPF file system: mount -t bpf bpf /sys/fs/bpf", str(self.path))
        try:
            self.path.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            return False
        return True

    def _begin(self) -> None:
        """Empty it of what is in force no more: of a pair that is gone, or of a process that was killed meanwhile."""
        if not self._is_a_firewalls():
            what = "other things are there: a firewall needs a directory of its own"
            raise FileExistsError(errno.EEXIST, what, str(self.path))
        self._empty()
        with Map.create("array", value_size=4, key_size=4, max_entries=1, name="nk_firewall") as mark:
            mark.pin(self.path / _MARK)

    def _is_a_firewalls(self) -> bool:
        """Whether it may be emptied: nothing is there that somebody else put there."""
        names = os.listdir(self.path)
        return not names or _MARK in names

    def _is_in_force(self) -> bool:
        links = self.links()
        is_attached = any(link.is_attached for link in links.values())
        for link in links.values():
            link.close()
        return is_attached and self.in_force() >= 0

    def _empty(self) -> None:
        for side in Side:
            (self.path / side).unlink(missing_ok=True)
        for generation in self.generations():
            self.drop(generation)
        shutil.rmtree(self.path / "past", ignore_errors=True)
        for name in ("shared", _MARK):
            (self.path / name).unlink(missing_ok=True)

    def _is(self, directory: int) -> bool:
        """Whether that is still the directory: somebody may have removed it."""
        try:
            return os.path.samestat(os.fstat(directory), self.path.stat())
        except FileNotFoundError:
            return False

    def check(self, shared: Map) -> None:
        """Raise FileNotFoundError if the firewall that is pinned is not the one that has this map."""
        with contextlib.suppress(FileNotFoundError), Map.open_pinned(self.path / "shared") as pinned:
            if pinned.id == shared.id:
                return
        raise self.missing()

    def missing(self) -> FileNotFoundError:
        """What to raise where there is none."""
        return FileNotFoundError(errno.ENOENT, "no firewall is pinned there: Firewall.pin() pins one", str(self.path))


def _encode(rules: PinnedRules) -> bytes:
    named = {
        "format": _FORMAT,
        "default": str(rules.default),
        "log_default": rules.log_default,
        "counted": rules.counted,
        "rules": rules.text,
    }
    return json.dumps(named).encode()


def _decode(place: Path) -> dict[str, Any]:
    with Map.open_pinned(place) as kept:
        return dict(json.loads(bytes(kept[0])))
