"""The pytest plugin where there is netkit: its fixtures, used here and in a run of its own."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from keeper import keeping
from netkit_bpf import CaptureFile, Lab, Mode, Monitor, NetkitPair, NetNS
from traffic import End, ping

pytest_plugins = ["pytester"]


def ends(pair: NetkitPair, version: int) -> tuple[End, End]:
    addresses = {4: ("10.42.0.1", "10.42.0.2"), 6: ("fd42::1", "fd42::2")}[version]
    return End(pair.primary.netns, addresses[0]), End(pair.peer.netns, addresses[1])


def test_the_pair_has_addresses_and_its_primary_is_in_the_namespace(
    netns: NetNS, netkit_pair: NetkitPair, netkit_monitor: Monitor
) -> None:
    assert netkit_pair.primary.netns is netns
    assert netkit_pair.mode is Mode.L3
    for version in (4, 6):
        left, right = ends(netkit_pair, version)
        assert ping(left, right, [56]) == ping(right, left, [56]) == 1
    assert {event.family for event in netkit_monitor.events(timeout=0.5)} == {4, 6}


@pytest.mark.netkit(mode="l2")
def test_the_marker_says_the_mode(netkit_pair: NetkitPair, netkit_pair_factory: Callable[..., NetkitPair]) -> None:
    assert netkit_pair.mode is Mode.L2
    assert netkit_pair_factory().mode is Mode.L2
    assert netkit_pair_factory(mode="l3").mode is Mode.L3


def test_pairs_of_the_factory_may_live_in_the_namespace_of_the_run(
    netkit_pair_factory: Callable[..., NetkitPair],
) -> None:
    here = NetNS.current()
    first = netkit_pair_factory(netns=here, peer_netns=here)
    second = netkit_pair_factory(netns=here, peer_netns=here, policy="blackhole")
    assert first.primary.name != second.primary.name
    assert second.peer.name == second.primary.name + "p"


def test_a_test_that_leaves_a_pair_behind_is_reported(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from netkit_bpf import NetkitPair

        def test_tidy(netkit_pair_factory):
            netkit_pair_factory()

        def test_careless(netkit_leak_check, netkit_name, keep):
            keep(NetkitPair.create("careless"))
        """
    )
    with keeping() as keeper, NetkitPair.create("bystander"):
        done = pytester.runpytest("--netkit=require", plugins=[keeper])
        done.assert_outcomes(passed=2, errors=1)
        done.stdout.fnmatch_lines(["left behind by test_careless: NetkitPair careless, made at *.py:7, careless*"])


def test_the_packets_of_a_test_that_fails_are_in_its_report_and_in_a_file(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        import subprocess

        def say(pair):
            pair.peer.netns.run(["ping", "-c1", "fd42::1"], check=True, stdout=subprocess.DEVNULL)

        def test_passes(netkit_pair, netkit_capture):
            capture = netkit_capture(netkit_pair, filter="icmp6")
            say(netkit_pair)
            assert [event.icmp_type for event in capture.batch()] == [128, 129]

        @pytest.mark.parametrize("name", ["a/b"])
        def test_fails(netkit_pair, netkit_capture, name):
            netkit_capture(netkit_pair)
            say(netkit_pair)
            assert False

        def test_fails_when_its_pair_is_gone(netkit_pair, netkit_capture):
            netkit_capture(netkit_pair)
            say(netkit_pair)
            netkit_pair.delete()
            assert False

        def test_fails_in_silence(netkit_pair, netkit_capture):
            netkit_capture(netkit_pair, filter="udp")
            assert False
        """
    )
    done = pytester.runpytest("--netkit=require", "--junitxml=out/report.xml")
    done.assert_outcomes(passed=1, failed=3)
    done.stdout.fnmatch_lines(
        [
            "*netkit packets of *",
            "* ICMP6, echo request, *",
            "* ICMP6, echo reply, *",
            "*netkit capture*",
            f"{pytester.path}/out/test_the_packets*test_fails-a-b-*.pcapng",
        ]
    )
    written = sorted(path.name.rpartition(".py-")[2] for path in (pytester.path / "out").glob("*.pcapng"))
    assert re.fullmatch(r"test_fails-a-b--[0-9a-f]{8}\.pcapng", written[0])  # told apart from [a-b]
    assert written[1:] == ["test_fails_in_silence.pcapng", "test_fails_when_its_pair_is_gone.pcapng"]
    for name, expected in (("test_fails-a-b-", [128, 129]), ("test_fails_in_silence", [])):
        (path,) = (pytester.path / "out").glob(f"*{name}*.pcapng")
        with CaptureFile(path) as file:
            found = [event.icmp_type for batch in file for event in batch if event.icmp_type in (128, 129)]
        assert found == expected
    done = pytester.runpytest("--netkit=require", "--netkit-captures=kept", "-k", "silence")
    assert len(list((pytester.path / "kept").iterdir())) == 1


def test_tests_of_a_module_or_a_run_share_labs(pytester: pytest.Pytester) -> None:
    text = """
        import os
        import pytest

        pytestmark = pytest.mark.netkit(mode="l2")

        @pytest.fixture(scope="{scope}")
        def lab({scope}_netkit_lab_factory):
            return {scope}_netkit_lab_factory(2)

        @pytest.mark.parametrize("number", [1, 2])
        def test_it(lab, number, netkit_leak_check):
            print("lab", os.fstat(lab.hub.fileno()).st_ino, lab["n1"].pair.mode)
        """
    pytester.makepyfile(test_a=text.format(scope="module"), test_b=text.format(scope="session"))
    done = pytester.runpytest("--netkit=require", "-s")
    done.assert_outcomes(passed=4)
    one, same, other, as_other = re.findall(r"lab (\d+) (l[23])", "\n".join(done.outlines))
    assert one == same
    assert other == as_other
    assert [mode for _, mode in (one, other)] == ["l2", "l3"]


def test_a_shared_lab_that_a_test_makes_is_not_left_behind_by_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_it(netkit_leak_check, request, module_netkit_lab_factory):
            module_netkit_lab_factory(2)
            request.getfixturevalue("session_netkit_lab_factory")(1)
        """
    )
    pytester.runpytest_subprocess("--netkit=require").assert_outcomes(passed=1)


@pytest.mark.netkit_lab(["client", "server"], shape="line", mtu=9000)
def test_a_marker_says_what_the_lab_is(netkit_lab: Lab) -> None:
    assert [node.name for node in netkit_lab] == ["client", "server"]
    assert netkit_lab["client"].pair.primary.mtu == 9000
    assert list(netkit_lab["client"].links) == ["server"]
