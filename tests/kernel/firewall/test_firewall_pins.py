# SPDX-License-Identifier: MIT
"""A pinned firewall outlives its process; others find it, and replace its rules whole or not at all."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

from elsewhere import needs_tcx
from netkit_bpf import Firewall, Map, Rule, Ruleset, Verdict
from netkit_bpf.functions import firewall as module
from netkit_bpf.functions import firewall_pins as pins_module
from netkit_bpf.functions.firewall_pins import FirewallPins
from traffic import Wire, ping, send_datagrams, towards
from veth import veth_wire

pytestmark = needs_tcx

OLD = "drop udp\npass icmp"
NEW = "pass icmp\npass udp"


def test_pinned_rules_stay_in_force_and_are_found_again(wire: Wire, path: Path) -> None:
    with Firewall(wire.pair, "drop icmp\npass udp\npass arp", default="drop") as firewall:
        assert firewall.pinned_at is None
        firewall.pin(path)
        assert firewall.pinned_at == path
        send_datagrams(wire.left, wire.right, [100])
        rules, counted = firewall.rules, firewall.counters
    assert firewall.closed
    assert ping(wire.left, wire.right, [56], timeout=0.2) == 0
    with Firewall.open_pinned(wire.pair, path) as found:
        assert (found.rules, found.default) == (rules, Verdict.DROP)
        assert found.counters[rules[1]] == counted[rules[1]]
        assert found.counters[rules[0]].packets == 1
        assert str(found.explain(bytes.fromhex("0" * 24 + "0800") + bytes(40), "peer")).startswith("drop: no rule")
        found.replace("pass icmp\npass udp\npass arp", default="pass")
        assert found.default is Verdict.PASS
        assert ping(wire.left, wire.right, [56]) == 1
        assert found.counters[Rule.parse("pass udp")] == counted[rules[1]]
        found.unpin()
        assert not path.exists()
    assert wire.pair.programs("peer").programs == wire.pair.programs("primary").programs == ()


def test_pinned_connections_and_rates_are_found_again(wire: Wire, path: Path) -> None:
    rules = "pass arp\npass primary tcp from any to any port 7\npass udp rate 1/d burst 2"
    with wire.right.socket(socket.SOCK_STREAM) as listener, wire.left.socket(socket.SOCK_STREAM) as client:
        listener.bind(wire.right.name(7))
        listener.listen()
        client.settimeout(10)
        with Firewall(wire.pair, rules, default="drop", established=True, max_connections=8) as firewall:
            firewall.pin(path)
            client.connect(wire.right.name(7))
            send_datagrams(wire.left, wire.right, [1])
        server, _ = listener.accept()
        with server, Firewall.open_pinned(wire.pair, path) as found:
            server.settimeout(10)
            found.replace("pass arp\npass udp rate 1/d burst 2\ndrop")
            server.sendall(b"fro")
            assert client.recv(3) == b"fro"
            send_datagrams(wire.left, wire.right, [1])
            assert found.counters.established.packets > 2
            assert found.counters[Rule.parse("pass udp rate 1/d burst 2")] == (2, 2 * 43, 0)
            found.unpin()


def test_one_that_was_found_and_is_no_longer_pinned_is_told_when_nobody_keeps_it(wire: Wire, path: Path) -> None:
    with Firewall(wire.pair, "drop icmp") as firewall:
        firewall.pin(path)
    found = Firewall.open_pinned(wire.pair, path)
    found.unpin()
    with pytest.warns(ResourceWarning, match=r"^Firewall of ve0, made at .*test_firewall_pins.py:"):
        del found
    assert ping(wire.left, wire.right, [56]) == 1


def test_a_firewall_that_is_open_twice_is_one(wire: Wire, path: Path) -> None:
    with Firewall(wire.pair, OLD) as first, Firewall.open_pinned(wire.pair, pin(first, path)) as second:
        assert ping(wire.left, wire.right, [56]) == 1
        second.replace(Ruleset(["pass icmp to <there>"], {"there": ["10.42.0.2"]}))
        assert first.rules == second.rules
        first.replace_set("there", ["10.42.0.1"])
        assert second.rules.sets == {"there": tuple(first.rules.sets["there"])}
        assert ping(wire.left, wire.right, [56]) == 1
        assert first.counters == second.counters
        assert [count.packets for count in first.counters.values()] == [1]
        assert [each.name for each in path.iterdir() if each.name.isdecimal()] == ["2"]
        second.unpin()
        second.close()
        assert wire.pair.programs("peer").programs == ()
        with pytest.raises(FileNotFoundError, match="no firewall is pinned there") as caught:
            first.replace("pass")
        assert caught.value.filename == str(path)


def test_a_side_alone_is_pinned_alone(wire: Wire, path: Path) -> None:
    with Firewall(wire.pair, "drop udp", sides=["peer"]) as firewall:
        firewall.pin(path)
    with Firewall.open_pinned(wire.pair, path) as found:
        found.replace("drop icmp")
        assert wire.pair.programs("primary").programs == ()
        send_datagrams(wire.right, wire.left, [1])
        found.unpin()


def test_what_cannot_be_pinned_or_opened_says_why_and_leaves_nothing(wire: Wire, path: Path, tmp_path: Path) -> None:
    with Firewall(wire.pair, OLD) as firewall:
        with pytest.raises(ValueError, match="the firewall is not pinned"):
            firewall.unpin()
        elsewhere = tmp_path.parent / "no_bpf_file_system"
        with pytest.raises(OSError, match="mount -t bpf"):
            firewall.pin(elsewhere)
        assert firewall.pinned_at is None
        assert not elsewhere.exists()
        with pytest.raises(FileNotFoundError, match="no firewall is pinned there"):
            Firewall.open_pinned(wire.pair, path)
        with pytest.raises(OSError, match="it is not on a BPF file system"):
            firewall.pin("/sys/kernel/no_bpf_file_system")
        firewall.pin(path)
        with pytest.raises(ValueError, match=f"the firewall is pinned already, at {path}"):
            firewall.pin(path.parent / "other")
        with Firewall(wire.pair, NEW) as second, pytest.raises(FileExistsError, match="a firewall is pinned there"):
            second.pin(path)
        assert ping(wire.left, wire.right, [56]) == 1
        with veth_wire(6) as other, pytest.raises(ValueError, match=r"is not on ve0 \(egress\)|is not on ve0"):
            Firewall.open_pinned(other.pair, path)
        firewall.unpin()
    with pytest.raises(ValueError, match="the firewall is closed"):
        firewall.pin(path)


def test_what_is_somebody_elses_stays(
    wire: Wire, path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a directory of files, one with other pins, and one that is empty."""
    files = tmp_path_factory.mktemp("files")
    for name in ("2024", "past"):
        (files / name).mkdir()
        (files / name / "x").touch()
    (files / "shared").touch()
    (path / "1").mkdir(parents=True)
    for name in ("shared", "1/counts"):
        with Map.create("array", key_size=4, value_size=4, max_entries=1) as other:
            other.pin(path / name)
    with Firewall(wire.pair, OLD) as firewall:
        before = [sorted(each.rglob("*")) for each in (files, path)]
        for load in (firewall.pin, functools.partial(Firewall.replace_pinned, wire.pair, NEW)):
            with pytest.raises(OSError, match="it is not on a BPF file system"):
                load(files)
            with pytest.raises(OSError, match="it is not on a BPF file system"):
                load(files / "new" / "new")
            with pytest.raises(FileExistsError, match="other things are there: a firewall needs a dir"):
                load(path)
        assert not FirewallPins(path).is_left_behind(remove=True)
        assert [sorted(each.rglob("*")) for each in (files, path)] == before
        for name in ("shared", "1/counts"):
            (path / name).unlink()
        (path / "1").rmdir()
        monkeypatch.setattr(FirewallPins, "keep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            firewall.pin(path)
        assert list(path.iterdir()) == []


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_who_had_a_firewall_that_gave_way_to_another_is_told_and_does_it_no_harm(wire: Wire, path: Path) -> None:
    with Firewall(wire.pair, OLD) as first:
        first.pin(path)
        with Firewall.open_pinned(wire.pair, path) as another:
            another.unpin()
        for link in first._links.values():
            link.detach()
        Firewall.replace_pinned(wire.pair, NEW, path).close()
        for ask in (lambda: first.rules, lambda: first.counters, lambda: first.replace("pass"), first.unpin):
            with pytest.raises(FileNotFoundError, match="no firewall is pinned there"):
                ask()
    with Firewall.open_pinned(wire.pair, path) as second:
        assert str(second.rules) == str(Ruleset.parse(NEW))
        assert len(wire.pair.programs("peer").programs) == 1
        second.unpin()


def test_pins_of_a_pair_that_is_gone_make_room(path: Path) -> None:
    with veth_wire(4) as gone, Firewall(gone.pair, OLD) as firewall:
        firewall.pin(path)
    with veth_wire(4) as wire:
        with pytest.raises(ValueError, match="is not on ve0"):
            Firewall.open_pinned(wire.pair, path)
        with Firewall(wire.pair, NEW) as firewall:
            firewall.pin(path)
            firewall.unpin()


def test_a_process_that_is_killed_while_it_replaces_leaves_the_old_rules_or_the_new_on_both_hooks(
    wire: Wire, path: Path
) -> None:
    """Killed before each line of it, in turn."""
    results = []
    with Firewall(wire.pair, OLD) as firewall:
        firewall.pin(path)
    for line in range(1000):
        if not is_killed(lambda: replace(wire, path), line):
            break
        passes = {passes_udp(wire, forth) for forth in (True, False)}
        assert len(passes) == 1, f"a hook has other rules than the other, killed at line {line}"
        with Firewall.open_pinned(wire.pair, path) as found:
            assert str(found.rules) == (NEW if passes == {True} else OLD), line
            results.append(passes.pop())
            found.replace(OLD)
            assert len([each for each in path.iterdir() if each.name.isdecimal()]) == 1
        assert not passes_udp(wire, True)
    with Firewall.open_pinned(wire.pair, path) as found:
        assert str(found.rules) == NEW
        found.unpin()
    assert results == sorted(results)  # the old rules until the instant, and the new ones from it on
    assert set(results) == {False, True}


def test_a_process_that_is_killed_while_it_pins_the_first_rules_leaves_all_of_them_or_none(
    wire: Wire, path: Path
) -> None:
    results = []
    for line in range(1000):
        if not is_killed(lambda: load(wire, path, OLD), line, begin=pins_module.FirewallPins.keep.__code__):
            break
        passes = {passes_udp(wire, forth) for forth in (True, False)}
        assert len(passes) == 1, f"a hook has rules and the other has none, killed at line {line}"
        results.append(passes.pop())
        load(wire, path, NEW)
        assert passes_udp(wire, True)
        assert names_on(wire) == [["firewall_primar"], ["firewall_peer"]]
        with Firewall.open_pinned(wire.pair, path) as found:
            assert str(found.rules) == NEW
            found.unpin()
    assert results == sorted(results, reverse=True)  # nothing is in force until the instant
    assert set(results) == {False, True}
    with Firewall.open_pinned(wire.pair, path) as found:
        found.unpin()


@pytest.mark.parametrize("is_first", [True, False])
def test_processes_that_load_rules_at_once_leave_those_of_one_of_them(wire: Wire, path: Path, is_first: bool) -> None:
    texts = [f"pass udp from any to any port {1000 + number}\ndrop udp" for number in range(4)]
    for _ in range(3):
        if not is_first:
            load(wire, path, OLD)
        ours, theirs = os.pipe()  # closed to let all begin
        children = [start(functools.partial(load_when_closed, ours, theirs, wire, path, text)) for text in texts]
        os.close(ours)
        os.close(theirs)
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * len(texts)
        assert names_on(wire) == [["firewall_primar"], ["firewall_peer"]]
        with Firewall.open_pinned(wire.pair, path) as found:
            assert str(found.rules) in texts
            assert len([each for each in path.iterdir() if each.name.isdecimal()]) == 1
            found.unpin()
        assert names_on(wire) == [[], []]
        assert not path.exists()


def test_what_cannot_be_loaded_leaves_what_is_pinned_or_nothing(wire: Wire, path: Path) -> None:
    with pytest.raises(ValueError, match="default must be"):
        Firewall.replace_pinned(wire.pair, OLD, path, default="next")
    assert not path.exists()
    load(wire, path, OLD)
    with pytest.raises(ValueError, match="was made without established"):
        Firewall.replace_pinned(wire.pair, NEW, path, established=True)
    with pytest.raises(ValueError, match="line 1, column 1"):
        Firewall.replace_pinned(wire.pair, "pas", path)
    with Firewall.replace_pinned(wire.pair, NEW, path, default="drop", log_default=True) as found:
        assert (str(found.rules), found.default, found.log_default) == (NEW, Verdict.DROP, True)
        assert found.pinned_at == path
    with Firewall.replace_pinned(wire.pair, OLD, path) as found:
        assert (str(found.rules), found.default, found.log_default) == (OLD, Verdict.DROP, True)
        found.unpin()


def test_processes_that_replace_at_once_do_it_one_after_the_other(wire: Wire, path: Path) -> None:
    texts = [f"pass udp from any to any port {1000 + number}\ndrop udp" for number in range(3)]
    with Firewall(wire.pair, OLD) as firewall:
        firewall.pin(path)
        children = [start(functools.partial(replace_often, wire, path, text)) for text in texts]
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
        assert str(firewall.rules) in texts
        assert len([each for each in path.iterdir() if each.name.isdecimal()]) == 1
        firewall.unpin()


def pin(firewall: Firewall, path: Path) -> Path:
    firewall.pin(path)
    return path


def replace(wire: Wire, path: Path) -> None:
    with Firewall.open_pinned(wire.pair, path) as found:
        found.replace(NEW)


def load(wire: Wire, path: Path, text: str) -> None:
    Firewall.replace_pinned(wire.pair, text, path).close()


def load_when_closed(ours: int, theirs: int, wire: Wire, path: Path, text: str) -> None:
    os.close(theirs)
    os.read(ours, 1)
    load(wire, path, text)


def names_on(wire: Wire) -> list[list[str | None]]:
    return [[each.name for each in wire.pair.programs(side).programs] for side in ("primary", "peer")]


def replace_often(wire: Wire, path: Path, text: str) -> None:
    with Firewall.open_pinned(wire.pair, path) as found:
        for _ in range(10):
            found.replace(text)


def passes_udp(wire: Wire, forth: bool) -> bool:
    """An echo follows, which all of the rules pass: when it is back the datagram has arrived, or it never will."""
    sender, receiver = (wire.left, wire.right) if forth else (wire.right, wire.left)
    with sender.socket(socket.SOCK_DGRAM) as out, receiver.socket(socket.SOCK_DGRAM) as into:
        into.bind(receiver.name(0))
        into.setblocking(False)
        with contextlib.suppress(OSError):  # the sender may be told of a drop at its own hook
            out.sendto(b"x", towards(sender, receiver, into.getsockname()[1]))
        assert ping(sender, receiver, [56]) == 1
        with contextlib.suppress(BlockingIOError):
            return into.recv(16) == b"x"
        return False


def start(function: Any) -> int:
    child = os.fork()
    if child == 0:
        try:
            function()
            os._exit(0)
        finally:
            os._exit(1)
    return child


def is_killed(function: Any, line: int, begin: CodeType = module.Firewall.replace.__code__) -> bool:
    """Run it in a child that is killed before that line of the firewall's, from `begin` on; whether it came to it."""
    left = line
    has_begun = False

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        nonlocal has_begun
        has_begun |= frame.f_code is begin
        if not has_begun or frame.f_code.co_filename not in (module.__file__, pins_module.__file__):
            return None
        if event == "line":
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
        return trace

    def traced() -> None:
        sys.settrace(trace)
        function()

    status = os.waitpid(start(traced), 0)[1]
    assert os.WIFSIGNALED(status) or status == 0
    return os.WIFSIGNALED(status)
