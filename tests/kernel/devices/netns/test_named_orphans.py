"""Named namespaces of killed processes are removed, and no others."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import netkit_bpf as nk
from daemon import Daemon
from forked import Forked
from netkit_bpf import Device, NetNS
from netkit_bpf.devices.owner import Owner

NAME = "nk-test-orphan"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def is_there(name: str = NAME) -> bool:
    return Path("/run/netns", name).exists()


@pytest.fixture
def orphan() -> Iterator[str]:
    """The name that a killed process left."""
    with Forked(lambda: NetNS.create(NAME)):
        pass
    yield NAME
    if is_there():
        ip("netns", "delete", NAME)


def test_the_name_that_a_killed_process_left_is_reaped() -> None:
    with Forked(lambda: NetNS.create(NAME)) as maker:
        assert nk.orphans() == []
        maker.kill()
        (found,) = nk.orphans()
        assert (found.name, found.ifindex, found.netns.name, found.pid) == (NAME, None, NAME, maker.pid)
        assert str(found) == f"network namespace {NAME}, made by process {maker.pid}, which has ended"
        assert [(each.name, each.pid) for each in nk.reap()] == [(NAME, maker.pid)]
        assert not is_there()
        assert nk.reap() == []


def test_names_of_others_and_of_living_processes_stay(orphan: str) -> None:
    with NetNS.create("nk-test-mine"), Forked(lambda: NetNS.create("nk-test-theirs")) as living:
        ip("netns", "add", "nk-test-stranger")
        assert [each.name for each in nk.reap()] == [orphan]
        assert all(is_there(f"nk-test-{whose}") for whose in ("mine", "theirs", "stranger"))
        ip("netns", "delete", "nk-test-stranger")
        living.kill()
        assert [each.name for each in nk.reap()] == ["nk-test-theirs"]


def test_a_name_that_was_given_to_a_strangers_namespace_stays(orphan: str) -> None:
    ip("netns", "delete", orphan)
    ip("netns", "add", orphan)
    assert nk.reap() == []
    assert is_there()


def test_a_namespace_with_another_alias_stays(orphan: str) -> None:
    ip("-n", orphan, "link", "set", "lo", "alias", "somebody needs it")
    assert nk.reap() == []
    assert is_there()


def test_what_a_daemon_goes_on_with_stays() -> None:
    with Daemon(lambda: NetNS.create(NAME)) as daemon:
        assert nk.reap() == []
        assert is_there()
        daemon.kill()
        assert [each.pid for each in nk.reap()] == [daemon.maker]


def test_a_namespace_that_somebody_lives_in_stays(orphan: str) -> None:
    with subprocess.Popen(["ip", "netns", "exec", orphan, "sleep", "60"]) as process:
        while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n":
            pass
        assert nk.reap() == []
        process.kill()
    assert [each.name for each in nk.reap()] == [orphan]


def test_a_namespace_that_another_process_holds_open_stays(orphan: str) -> None:
    with Forked(lambda: NetNS.open(orphan)):
        assert nk.reap() == []
    assert [each.name for each in nk.reap()] == [orphan]


@pytest.mark.parametrize("command", [["ip", "netns", "attach"], ["ln", "-s"]], ids=["attached", "linked"])
def test_a_namespace_to_which_somebody_gave_another_name_stays(orphan: str, command: list[str]) -> None:
    second = "nk-test-second"
    if command[0] == "ln":
        subprocess.run([*command, orphan, f"/run/netns/{second}"], check=True)
    else:
        with subprocess.Popen(["nsenter", f"--net=/run/netns/{orphan}", "sleep", "60"]) as process:
            while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n":
                pass
            subprocess.run([*command, second, str(process.pid)], check=True)
            process.kill()
    assert nk.reap() == []
    assert is_there()
    assert is_there(second)
    if command[0] == "ln":
        Path("/run/netns", second).unlink()
    else:
        ip("netns", "delete", second)
    assert [each.name for each in nk.reap()] == [orphan]


def test_what_was_removed_meanwhile_was_not_reaped(orphan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = nk.orphans()
    ip("netns", "delete", orphan)
    monkeypatch.setattr("netkit_bpf.devices.reap.orphans", lambda netns: found)
    assert [each.name for each in found] == [orphan]
    assert nk.reap() == []


def test_a_namespace_with_an_end_of_somebody_elses_pair_stays(orphan: str) -> None:
    with NetNS.create() as netns:
        netns.run(["ip", "link", "add", "ve0", "type", "veth", "peer", "name", "ve1", "netns", orphan], check=True)
        assert nk.reap() == []
        Device.open("ve0", netns)
        netns.run(["ip", "link", "delete", "ve0"], check=True)
    ip("-n", orphan, "link", "add", "ve0", "type", "veth", "peer", "name", "ve1")  # both ends inside: nobody's
    assert [each.name for each in nk.reap()] == [orphan]


def test_a_namespace_says_whose_it_is() -> None:
    with NetNS.create(NAME) as netns:
        assert Device.open("lo", netns).alias == Owner.current().alias
    with NetNS.create() as netns:
        assert Device.open("lo", netns).alias == ""
