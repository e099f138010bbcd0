# SPDX-License-Identifier: MIT
"""The firewall: rules on the hooks of a pair, of which the first that matches a packet decides (bpf/firewall.bpf.c)."""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netkit_bpf.bpf.hook import Anchor, Link
from netkit_bpf.bpf.program import PacketContext
from netkit_bpf.devices.pair import NetkitPair
from netkit_bpf.enums import Policy, Rank, Side, Verdict
from netkit_bpf.events.event import PacketEvent
from netkit_bpf.firewall.counts import RuleCounts
from netkit_bpf.firewall.explanation import Explanation
from netkit_bpf.firewall.rule import Rule
from netkit_bpf.firewall.ruleset import Ruleset
from netkit_bpf.firewall.verdict_event import VerdictEvent
from netkit_bpf.functions.firewall_pins import IN_FORCE, NOT_YET, FirewallPins, default_path
from netkit_bpf.functions.firewall_programs import (
    LEFT,
    USUAL_RING,
    explainer,
    keep_buckets,
    lasting_maps,
    logged,
    logs,
    waiting_for_programs,
)
from netkit_bpf.functions.loaded_rules import LoadedRules
from netkit_bpf.functions.past_rules import PastRules
from netkit_bpf.functions.verdict_reader import VerdictIterator, VerdictReader
from netkit_bpf.internal.arguments import expect, expect_in, expect_power_of_two, expect_sides, expect_word
from netkit_bpf.internal.process_lock import ProcessLock
from netkit_bpf.internal.resource import Closing

if TYPE_CHECKING:
    from netkit_bpf.functions.following.policy_follower import PolicyFollower

_log = logging.getLogger("netkit_bpf")

_LARGEST_RING = 1 << 30


class Firewall(Closing):
    """Rules on the hooks of a pair: the first that matches a packet decides.

    It is attached from its construction until `close`, in front of the other programs of the hooks; once it is pinned
    (`pin`) it outlives both. A packet that a rule passes goes on to the programs behind (the verdict is NEXT), and
    passes where there are none, whatever the policy. A packet that no rule matches is dropped with `default="drop"`;
    else the side's policy decides: forward leaves it to the programs behind, blackhole drops it, whatever is behind. So
    a pair with the policy blackhole passes what the rules pass, and nothing once the process has ended, in whatever
    way, unless they are pinned.

    It follows changes of the policies at once, whoever makes them: the kernel notifies of them, and a thread sleeps
    until then. If the primary is in another namespace than the thread that makes the firewall, this takes
    CAP_NET_BROADCAST; without it a warning is logged to "netkit_bpf", and `check` is to be called. Programs on a hook
    cannot see its policy, so a pinned firewall that no process has open keeps to the policies as they were when the
    last one closed it, until one opens it again. With `default="drop"` it does not matter.

    Any thread may use it. In a forked child it is a copy, whose `close` takes nothing off the hooks.

    Args:
        pair: the pair.
        rules: a `Ruleset`, a text of rules (`Ruleset.parse`), or a sequence of rules and lines.
        default: what becomes of a packet that no rule matches: "pass" or "drop".
        sides: which hooks: "primary", "peer" or both. Rules of another side never match.
        established: let pass what belongs to a connection of TCP or UDP that the rules, or the default, let somebody
            open, in both directions and whatever the rules say: as `ct state established accept` of nft(8) in front of
            the rules, with nf_conntrack's time-outs. A connection is established once the other side has answered.
            Sequence numbers are not looked at; errors of ICMP and later fragments are judged by the rules. Connections
            outlive `replace`.
        max_connections: how many are remembered. None is forgotten for another's sake: when there is no room, not even
            after those that have timed out were removed, at most once a second, the packets of a new one are judged by
            the rules alone, and `counters.no_room` counts those that would have opened it.
        log_default: whether each packet that no rule matches makes an event, as with a rule that says `log`: see
            `events`.
        ring_size: bytes of the ring buffer in which events wait: a power of two, 4096 to 1 GiB; an event takes 112. It
            is made once a rule says `log`, or the default.
        before: attach in front of this one, on each hook, as in `Hook.attach`, and not in front of all.
        after: attach behind this one, likewise.

    Raises:
        ValueError: an argument is not possible; a text is no rules: the message names line and column.
        PermissionError: CAP_BPF or CAP_NET_ADMIN is missing.
        OSError: ENODEV, the pair is gone; ENOMEM, the kernel has no room for the tables. Nothing is attached then.

    Warns:
        UserWarning: a rule never decides, because an earlier one matches all that it matches; the text names both.

    >>> with Firewall(pair, "drop peer ip6 tcp from any to fd00::/64 port 12345") as firewall:  # doctest: +SKIP
    ...     ...
    ...     print(firewall.counters)
    """

    def __init__(
        self,
        pair: NetkitPair,
        rules: Ruleset | str | Iterable[Rule | str] = (),
        *,
        default: Verdict | str = Verdict.PASS,
        established: bool = False,
        max_connections: int = 65536,
        sides: Sequence[Side | str] = tuple(Side),
        log_default: bool = False,
        ring_size: int = USUAL_RING,
        before: Anchor | None = None,
        after: Anchor | None = None,
    ) -> None:
        self._prepare(
            pair,
            rules,
            default,
            established=established,
            max_connections=max_connections,
            sides=sides,
            log_default=log_default,
            ring_size=ring_size,
            before=before,
            after=after,
        )
        self._in_force = self._loaded.generation

    def _prepare(
        self,
        pair: NetkitPair,
        rules: Ruleset | str | Iterable[Rule | str],
        default: Verdict | str,
        *,
        established: bool = False,
        max_connections: int = 65536,
        sides: Sequence[Side | str] = tuple(Side),
        log_default: bool = False,
        ring_size: int = USUAL_RING,
        before: Anchor | None = None,
        after: Anchor | None = None,
    ) -> None:
        """Attach programs that do nothing until their generation is in force."""
        self._pair = expect(pair, NetkitPair, "pair")
        self._sides = expect_sides(sides)
        chosen = _check_default(default)
        expect_in(max_connections, range(1, 1 << 24), "max_connections")
        expect(log_default, bool, "log_default")
        expect_power_of_two(ring_size, mmap.PAGESIZE, _LARGEST_RING, "ring_size")
        if established and len(self._sides) < len(Side):
            raise ValueError("established needs both sides: the one opens connections, and the other answers")
        self._begin(ring_size)
        self._established = bool(established)
        self._loaded = LoadedRules(
            _ruleset(rules),
            chosen,
            log_default,
            sides=self._sides,
            connections=max_connections if established else 0,
            ring_size=ring_size,
        )
        self._remember(self._loaded)
        with contextlib.ExitStack() as undo:  # unless all of it succeeds
            undo.callback(self.close)
            self._follow_policies()
            self._in_force = NOT_YET
            for side in self._sides:
                program = self._loaded.object.programs[f"firewall_{side}"]
                self._links[side] = pair.attach(program, side, rank=Rank.FIREWALL, before=before, after=after)
            undo.pop_all()

    @classmethod
    def open_pinned(cls, pair: NetkitPair, path: str | os.PathLike[str] | None = None) -> Firewall:
        """Open the firewall of a pair that was pinned, by whatever process.

        It is the same firewall: what is replaced by one is seen by the other. Closing it leaves the rules in force.

        Args:
            pair: the pair.
            path: where it is pinned, if that was said when it was.

        Raises:
            FileNotFoundError: no firewall is pinned there.
            ValueError: that one is another pair's, or of another version of this package.
            PermissionError: CAP_SYS_ADMIN is missing.

        >>> with Firewall.open_pinned(pair) as firewall:  # doctest: +SKIP
        ...     firewall.replace("drop tcp to any port 22")
        """
        pins = FirewallPins(_path(path, expect(pair, NetkitPair, "pair")))
        self = cls.__new__(cls)
        with pins.locked():
            self._find(pair, pins)
        self.note_made()
        return self

    @classmethod
    def replace_pinned(
        cls,
        pair: NetkitPair,
        rules: Ruleset | str | Iterable[Rule | str],
        path: str | os.PathLike[str] | None = None,
        *,
        default: Verdict | str | None = None,
        log_default: bool | None = None,
        established: bool = False,
    ) -> Firewall:
        """Put rules in force and leave them pinned, in the place of those that are pinned or as the first ones.

        Several processes may do so at once: one does it after the other, each whole. Where a process is killed
        meanwhile, what was in force before stays, or the new rules are in force, on both hooks.

        Args:
            pair: the pair.
            rules: as the firewall itself takes them.
            path: where they are pinned, as `pin` takes it.
            default: what becomes of a packet that no rule matches (default: pass, or what became of it before).
            log_default: whether such a packet makes an event (default: no, or as before).
            established: let pass what belongs to an established connection; it is said with the first rules.

        Raises:
            ValueError: the rules are none; the pinned firewall is another pair's, or was made without `established`.
            OSError: what `pin` and `replace` raise.

        >>> Firewall.replace_pinned(pair, "drop tcp to any port 22").close()  # doctest: +SKIP
        """
        ruleset = _ruleset(rules)
        pins = FirewallPins(_path(path, expect(pair, NetkitPair, "pair")))
        self = cls.__new__(cls)
        with pins.claimed() as is_in_force, contextlib.ExitStack() as undo:  # unless all of it succeeds
            if is_in_force:
                self._find(pair, pins)
                undo.callback(self.close)
                if established and not self.established:
                    raise ValueError(
                        f"the firewall that is pinned at {pins.path} was made without established: remove it first"
                        " (netkit-bpf fw flush)"
                    )
                with self._holding_pins():
                    self.replace(ruleset, default=default, log_default=log_default)
            else:
                self._prepare(
                    pair,
                    ruleset,
                    Verdict.PASS if default is None else default,
                    established=established,
                    log_default=bool(log_default),
                )
                undo.callback(self.close)
                self._keep(pins)
                self._in_force = self._loaded.generation  # this is the instant
                self._past.pins = pins
            undo.pop_all()
        self.note_made()
        return self

    def _begin(self, ring_size: int, pins: FirewallPins | None = None) -> None:
        """Set what a firewall has before it has rules."""
        self._lock = ProcessLock()
        self._process = os.getpid()
        self._has_pins = False  # the lock of the pins
        self._links: dict[Side, Link] = {}
        self._ring_size = ring_size
        self._reader: VerdictReader | None = None
        self._follower: PolicyFollower | None = None
        self._past = PastRules(pins)

    def _find(self, pair: NetkitPair, pins: FirewallPins) -> None:
        self._pair = pair
        self._begin(USUAL_RING, pins)
        with contextlib.ExitStack() as undo:  # unless all of it succeeds
            self._links = pins.links()
            self._sides = tuple(self._links)
            for side, link in self._links.items():
                undo.callback(link.close)
                if link.id not in [each.link_id for each in pair.hook(side).programs]:
                    raise ValueError(
                        f"the firewall that is pinned at {pins.path} is not on {pair.hook(side).name}: it is another"
                        " pair's, or was detached; remove the directory if nobody needs it"
                    )
            if not self._links or pins.in_force() < 0:
                raise pins.missing()
            self._load_pinned()
            undo.callback(self.close)
            self._follow_policies()
            undo.pop_all()

    @property
    def rules(self) -> Ruleset:
        """The rules that are in force. After `close`, the last ones."""
        with self._current():
            return self._loaded.rules

    @property
    def default(self) -> Verdict:
        """What becomes of a packet that no rule matches."""
        with self._current():
            return self._loaded.default

    @property
    def log_default(self) -> bool:
        """Whether each packet that no rule matches makes an event."""
        with self._current():
            return self._loaded.log_default

    @property
    def established(self) -> bool:
        """Whether what belongs to an established connection passes."""
        return self._established

    @property
    def pinned_at(self) -> Path | None:
        """Where it is pinned."""
        return None if self._pins is None else self._pins.path

    def pin(self, path: str | os.PathLike[str] | None = None) -> None:
        """Let the rules stay in force without this object and this process, for `open_pinned` to find them.

        Then they do until `unpin` and `close`, or until the pair is gone. Several processes may have it open and
        replace the rules at once: one does it after the other, each whole, and the last one's stay. Where a process is
        killed meanwhile, the old rules stay or the new ones are in force, on both hooks. (Where it is killed within
        `pin`, the rules of one hook may stay without the other's until it is pinned anew; see `replace_pinned`.)

        Args:
            path: a directory to be made on a BPF file system (default: one in /sys/fs/bpf/netkit-bpf, for this pair).

        Raises:
            FileExistsError: a firewall is pinned there, or the directory has something else.
            ValueError: the firewall is closed, or it is pinned already.
            OSError: the path is not on a BPF file system (`mount -t bpf bpf /sys/fs/bpf`).
        """
        with self._lock:
            self._open()
            if self._pins is not None:
                raise ValueError(f"the firewall is pinned already, at {self._pins.path}")
            pins = FirewallPins(_path(path, self._pair))
            with pins.made():
                self._keep(pins)
            self._past.pins = pins

    def _keep(self, pins: FirewallPins) -> None:
        pins.keep(self._loaded.generation, self._loaded.object.maps, self._loaded.written())
        for side, link in self._links.items():
            link.pin(pins.path / side)
        pins.finish(self._loaded.object.maps["shared"])

    def unpin(self) -> None:
        """Take back what `pin` did: the rules stay in force until `close`.

        Raises:
            ValueError: the firewall is not pinned, or it is closed.
            FileNotFoundError: somebody else did so, and may have pinned another firewall there.
        """
        with self._lock:
            self._open()
            if self._pins is None:
                raise ValueError("the firewall is not pinned: there is nothing to take back")
            with self._current():
                for link in self._links.values():
                    link.unpin()
                self._pins.remove()
            self._past.pins = None

    def replace(
        self,
        rules: Ruleset | str | Iterable[Rule | str],
        *,
        default: Verdict | str | None = None,
        log_default: bool | None = None,
    ) -> None:
        """Put other rules in the place of all: each packet is judged by the old ones or by the new ones, whole.

        That is one instant for both hooks. Rules that are in both keep what they have counted, and so does the default.
        On any failure the old rules stay in force, and so they do where the process is killed before that instant.

        Args:
            rules: as the firewall itself takes them.
            default: what becomes of a packet that no rule matches, from now on (default: what became of it before).
            log_default: whether such a packet makes an event, from now on (default: as before).

        Raises:
            ValueError: the firewall is closed, or the rules are none.
            OSError: ENOMEM, the kernel has no room for the tables; ENOLINK, the pair is gone.
        """
        ruleset = _ruleset(rules)
        chosen = None if default is None else _check_default(default)
        with self._current(), waiting_for_programs() as wait_for_programs:
            old = self._open()
            log = old.log_default if log_default is None else expect(log_default, bool, "log_default")
            old.object.maps["before"].clear()  # a replacement that was interrupted, or killed, may have left it
            kept = ruleset.numbers_in(old.rules)
            generation = max([self._in_force, *(self._pins.generations() if self._pins else ())]) + 1
            new = LoadedRules(
                ruleset,
                chosen or old.default,
                log,
                generation,
                lasting_maps(old.object),
                carried=None if self._pins is None else old.counts_for(kept),
                sides=self._sides,
                ring_size=self._ring_size,
            )
            with contextlib.ExitStack() as undo:  # unless all of it succeeds
                undo.callback(new.close)
                keep_buckets(old.object, new.object, kept)
                for side, link in self._links.items():
                    new.object.maps["before"][side.number] = link.program
                if self._pins is not None:
                    undo.callback(self._pins.drop, generation)
                    self._pins.keep(generation, new.object.maps, new.written())
                self._remember(new)
                for side, link in self._links.items():
                    undo.callback(link.update, link.program)
                    link.update(new.object.programs[f"firewall_{side}"])
                undo.callback(setattr, self, "_loaded", old)
                undo.callback(setattr, self, "_in_force", self._in_force)
                self._set_verdicts()
                self._in_force = generation  # this is the instant
                self._loaded = new
                undo.pop_all()
            with contextlib.ExitStack() as last_first:
                last_first.callback(old.object.close)
                try:
                    wait_for_programs()  # which still count by the old rules
                finally:
                    new.carried = old.counts_for(kept)
                new.object.maps["before"].clear()
                if self._pins is not None:
                    self._pins.update(generation, new.written())
                    self._pins.retire(old.generation)
                    for each in self._pins.generations():
                        if each != generation:
                            self._pins.drop(each)

    def replace_set(self, name: str, networks: Iterable[Any]) -> None:
        """Put other addresses in the place of a set's, as `replace` does.

        Raises:
            KeyError: the rules have no set of this name.
            ValueError: an address is none.

        >>> firewall.replace_set("friends", ["192.0.2.0/24", "fd00::/8"])  # doctest: +SKIP
        """
        with self._current():
            self.replace(self._loaded.rules.with_set(name, networks))

    @property
    def counters(self) -> RuleCounts:
        """What each rule decided until now. After `close`, the final counts."""
        with self._current():
            return RuleCounts(self._loaded.rules, self._loaded.counts())

    @property
    def log(self) -> VerdictReader:
        """The reader of the events of the rules that say `log`, made when it is first asked for.

        Raises:
            ValueError: the firewall is closed; neither a rule nor the default says `log`, or another reader of this
                process has the ring buffer.
        """
        with self._current():
            obj = self._open().object
            if self._reader is None or self._reader.closed:
                if not logs(obj):
                    raise ValueError("no rule says log, nor does the default: there are no events to be read")
                self._reader = VerdictReader(obj.maps["verdicts"], self._pair.primary.name, self._past.find)
            return self._reader

    def events(
        self, timeout: float | None = None, duration: float | None = None, count: int | None = None
    ) -> VerdictIterator[VerdictEvent]:
        """Iterate over what the rules that say `log` decided, with `for` or with `async for`, until `close`.

        An event tells of one packet: what became of it, by which rule, as the rules were then. What belongs to an
        established connection is judged by no rule, and makes none. Events wait in a ring buffer from the moment when
        such a rule comes in force; where it is full, new ones are lost, and `log.stats` counts them. `log` also reads
        one by one and in batches.

        The events of a pinned firewall are read by one process at a time, whichever. It finds the rules that an event
        names if it follows at most sixteen replacements later; else the event has their number alone. Where somebody
        else removes that firewall, or its pair is deleted, no more events come, and the iterator goes on waiting.

        Args:
            timeout: seconds without an event after which it ends. With 0 it gives what is there and waits for nothing.
            duration: seconds from now after which it ends, even if events keep coming.
            count: how many events it gives at most, 1 or more.

        Raises:
            ValueError: the firewall is closed, or nothing says `log`.
            OSError: from the iterator: EBUSY, another process reads them too.

        >>> with Firewall(pair, "drop peer log tcp to any port 22") as firewall:  # doctest: +SKIP
        ...     for event in firewall.events(timeout=1.0):
        ...         print(event)
        [peer] IPv6: fd00::2 -> fd00::1 | next=6 len=40 ttl=64 | drop: line 1: drop peer log tcp from any to any port 22
        """
        return self.log.events(timeout, duration, count)

    def explain(self, packet: bytes | str | PacketEvent | VerdictEvent, side: Side | str | None = None) -> Explanation:
        """Tell which rule decides what becomes of a packet, if it is of no established connection. Nothing is counted.

        Args:
            packet: an event of it, its bytes from the Ethernet header on, or words as `Ruleset.match` takes them.
            side: whose packet it is; an event tells.

        Raises:
            ValueError: the firewall is closed; bytes or words without a side, or an event with one; the words are none;
                the firewall is not on that side.

        >>> print(firewall.explain(event))  # doctest: +SKIP
        drop: line 3: drop peer ip6 tcp from any to fd00::/64 port 12345
        >>> firewall.explain("tcp from fd00::1 port 1024 to fd00::2 port 12345 flags S", "peer")  # doctest: +SKIP
        """
        if isinstance(packet, VerdictEvent):
            packet = packet.packet
        with self._current():
            loaded = self._open()
            obj, rules = loaded.object, loaded.rules
            if isinstance(packet, PacketEvent):
                if side is not None:
                    raise ValueError("side is for bytes and words: an event tells its side")
                side = packet.side
                number = rules.match(packet)
            elif side is None:
                raise ValueError("side is missing: bytes and words do not tell whose packet it is")
            elif isinstance(packet, str):
                number = rules.match(packet, side)
            else:
                mark = PacketContext(mark=expect_word(side, Side, "side").number)
                with explainer(obj) as explaining:
                    number = explaining.programs["firewall_explain"].test_run(packet, context=mark).retval
            if Side(side) not in self._sides:
                raise ValueError(f"the firewall is on the {self._sides[0]} alone: it judges no packet of the {side}")
            left = Verdict.from_number(obj.maps["shared"][LEFT + Side(side).number])
        if number is None or number >= len(rules):
            return Explanation(Verdict.DROP if loaded.default is Verdict.DROP else left, None, None)
        rule = rules[number]
        return Explanation(Verdict.DROP if rule.action is Verdict.DROP else Verdict.NEXT, number, rule)

    def check(self) -> None:
        """Look again at the policies, for the packets that no rule matches, where their changes are not followed.

        Raises:
            ValueError: the firewall is closed.
            OSError: ENODEV, the pair is gone.
        """
        with self._current():
            self._open()
            self._set_verdicts()

    def close(self) -> None:
        """Take the rules off the hooks, unless they are pinned. Idempotent."""
        is_ours = os.getpid() == self._process
        with contextlib.ExitStack() as last_first:  # whatever fails, the rest is closed
            if self._follower is not None:
                self._follower.stop()
                last_first.callback(self._follower.close)  # without the lock, for which its thread would wait a while
            last_first.enter_context(self._lock)
            if self.closed:
                return
            last_first.callback(self._loaded.close)
            if self._reader is not None:
                last_first.callback(self._reader.close)
            for link in self._links.values():
                last_first.callback(link.close)
                if is_ours and self._pins is None:
                    last_first.callback(link.detach)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._loaded.object.closed

    def _noun(self) -> str:
        is_held = not self.closed and self._pins is None  # what is pinned stays in force
        return f"Firewall of {self._pair.primary.name}" if is_held else ""

    def _repr_html_(self) -> str | None:
        return None if self.closed else self.counters._repr_html_()

    def __repr__(self) -> str:
        return f"<Firewall of {len(self._loaded.rules)} rules, {'closed' if self.closed else 'open'}>"

    @contextlib.contextmanager
    def _current(self) -> Iterator[None]:
        """Have the rules as they are now: other processes may replace those that are pinned, and wait meanwhile."""
        with self._lock:
            if self._pins is None or self._has_pins or self.closed:
                yield
                return
            with self._pins.locked(), self._holding_pins():
                self._pins.check(self._loaded.object.maps["shared"])
                if self._in_force != self._loaded.generation:
                    old = self._loaded
                    self._load_pinned()
                    old.object.close()
                yield

    @contextlib.contextmanager
    def _holding_pins(self) -> Iterator[None]:
        self._has_pins = True
        try:
            yield
        finally:
            self._has_pins = False

    def _load_pinned(self) -> None:
        assert self._pins is not None
        generation = self._pins.in_force()
        found = self._pins.rules(generation)
        maps = self._pins.maps(generation)
        try:
            self._loaded = LoadedRules(
                Ruleset.parse(found.text),
                found.default,
                found.log_default,
                generation,
                maps,
                carried=found.counted,
                sides=self._sides,
            )
        finally:
            for each in maps.values():
                each.close()
        self._established = self._loaded.object.maps["connections"].autocreate
        self._remember(self._loaded)

    def _remember(self, loaded: LoadedRules) -> None:
        if logs(loaded.object):
            self._past.add(loaded.generation, loaded.rules, logged(loaded.object))

    @property
    def _pins(self) -> FirewallPins | None:
        return self._past.pins

    @property
    def _in_force(self) -> int:
        """The generation that the programs judge by: one of another process, if it replaced what is pinned."""
        return int(self._loaded.object.maps["shared"][IN_FORCE])

    @_in_force.setter
    def _in_force(self, generation: int) -> None:
        self._loaded.object.maps["shared"][IN_FORCE] = generation

    def _open(self) -> LoadedRules:
        if self.closed:
            raise ValueError("the firewall is closed")
        return self._loaded

    def _follow_policies(self) -> None:
        from netkit_bpf.functions.following.policy_follower import PolicyFollower

        try:
            self._follower = PolicyFollower(self._pair, self._set_verdicts, self._lock)
        except PermissionError as error:
            _log.warning("changes of the policies of %s are not followed: %s", self._pair.primary.name, error)
        self._set_verdicts()

    def _set_verdicts(self) -> None:
        """Say what becomes of a packet that no rule matches: the next program has it, or a blackhole.

        A program behind that leaves it to the policy, such as an observer, cannot tell it from one that a rule passed.
        So a blackhole is not left to those behind.
        """
        said = None
        while (policies := (self._pair.policy, self._pair.peer_policy)) != said:  # they may change in between
            for number, policy in enumerate(policies, LEFT):
                self._open().object.maps["shared"][number] = (
                    Verdict.DROP.number if policy is Policy.BLACKHOLE else Verdict.NEXT.number
                )
            said = policies


def _check_default(default: Verdict | str) -> Verdict:
    if default not in (Verdict.PASS, Verdict.DROP):
        raise ValueError(f"default must be 'pass' or 'drop', not {default!r}")
    return Verdict(default)


def _path(path: str | os.PathLike[str] | None, pair: NetkitPair) -> Path:
    return default_path(pair) if path is None else Path(path)


def _ruleset(rules: Ruleset | str | Iterable[Rule | str]) -> Ruleset:
    if isinstance(rules, Ruleset):
        return rules
    return Ruleset.parse(rules) if isinstance(rules, str) else Ruleset(rules)
