"""The pytest plugin with privilege, on any kernel: namespaces, and what tests leave behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from elsewhere import needs_clang
from keeper import Keeper, keeping
from netkit_bpf import BPFObject, NetNS, Program
from netkit_bpf.bpf.compiler import compile_source
from pytest_netkit_bpf.requirements import why_no_netkit

pytest_plugins = ["pytester"]


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    with keeping() as keeper:
        yield keeper


def test_namespaces_are_made_and_gone_after_the_test(netns: NetNS, netns_factory: Callable[..., NetNS]) -> None:
    other = netns_factory()
    assert netns != other
    assert netns.run(["ip", "-brief", "link"], capture_output=True, text=True).stdout.startswith("lo ")


def test_a_named_namespace_is_seen_by_others(
    netns_factory: Callable[..., NetNS], netkit_name: Callable[[], str]
) -> None:
    name = netkit_name()
    netns_factory(name)
    assert name in subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout.split()


def test_of_a_test_that_failed_nothing_else_is_reported(pytester: pytest.Pytester) -> None:
    """Its traceback keeps what it had."""
    pytester.makepyfile(
        """
        from netkit_bpf import NetNS

        def test_failing(netns):
            mine = NetNS.create()
            assert mine.closed
        """
    )
    done = pytester.runpytest_subprocess("--netkit=require")
    done.assert_outcomes(failed=1)


@needs_clang
def test_a_test_that_leaves_something_behind_is_told_what_and_where_it_was_made(
    pytester: pytest.Pytester, keeper: Keeper
) -> None:
    pytester.makepyfile(
        test_it="""
        import pytest
        from netkit_bpf import BPFObject, Map, NetNS

        def test_tidy(netns_factory):
            netns_factory()

        def test_careless(netns, keep):
            keep(NetNS.create())

        def test_careless_with_a_name(netkit_leak_check, keep):
            keep(NetNS.create("nk-test-careless"))

        def test_that_forgets_a_name(netkit_leak_check):
            with pytest.warns(ResourceWarning, match="NetNS nk-test-forgotten, made at test_it.py:1"):
                NetNS.create("nk-test-forgotten")

        def test_careless_with_a_program(netkit_leak_check, keep):
            obj = BPFObject.compile('#include <netkit.h>\\nSEC("tc") int one(struct __sk_buff *skb) { return 0; }')
            obj.load()
            keep(obj)

        def test_careless_with_a_map(netkit_leak_check, keep):
            keep(Map.create("array", key_size=4, value_size=4, max_entries=1))

        def test_careless_with_a_descriptor(netkit_leak_check, keep):
            keep(open("/proc/self/ns/net"))
        """
    )
    done = pytester.runpytest("--netkit=require", plugins=[keeper])
    NetNS.open("nk-test-forgotten").delete()
    done.assert_outcomes(passed=7, errors=6)
    done.stdout.fnmatch_lines(
        [
            "left behind by test_careless: NetNS net:*, made at test_it.py:8",
            "left behind by test_careless_with_a_name: NetNS nk-test-careless, made at test_it.py:11, *",
            "left behind by test_that_forgets_a_name: network namespace nk-test-forgotten",
            "left behind by test_careless_with_a_program: BPFObject program, made at test_it.py:18",
            "left behind by test_careless_with_a_map: Map*, made at test_it.py:23",
            "left behind by test_careless_with_a_descriptor: * -> net:*",
        ]
    )


def test_what_was_there_before_the_test_is_no_leak(pytester: pytest.Pytester, keeper: Keeper) -> None:
    keeper.kept.append(NetNS.create())
    pytester.makepyfile("def test_tidy(netns): ...")
    pytester.runpytest("--netkit=require", plugins=[keeper]).assert_outcomes(passed=1)


def test_a_fixture_of_a_wider_scope_is_not_left_behind_by_the_test_that_asks_for_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from netkit_bpf import NetNS

        @pytest.fixture(scope="session")
        def below():
            with NetNS.create() as made:
                yield made

        @pytest.fixture(scope="module")
        def shared(below):
            with NetNS.create() as made:
                yield made

        def test_first(netns, request):
            request.getfixturevalue("shared")

        def test_second(netns, request):
            request.getfixturevalue("shared")
            request.config.left = NetNS.create()
        """
    )
    done = pytester.runpytest_subprocess("--netkit=require")
    done.assert_outcomes(passed=2, errors=1)
    done.stdout.fnmatch_lines(["left behind by test_second: NetNS net:*, made at *:19"])
    done.stdout.no_fnmatch_line("*left behind by test_first*")


def test_a_kernel_without_netkit_is_a_skip_that_says_what_is_needed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_pair(netkit_pair): ...\ndef test_lab(netkit_lab): ...")
    done = pytester.runpytest("-rs")
    if why_no_netkit():
        done.assert_outcomes(skipped=2)
        needed = "*needs Linux 6.7 or later built with CONFIG_NETKIT=y*; --netkit=auto runs it in a virtual machine"
        done.stdout.fnmatch_lines([f"SKIPPED*netkit devices: {needed}"])
    else:
        done.assert_outcomes(passed=2)


def test_where_no_namespace_may_be_made_the_limit_is_the_reason(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import pytest\n\ndef test_one(netns): ...\n@pytest.mark.netkit\ndef test_two(): ...")
    script = 'echo 0 >/proc/sys/user/max_net_namespaces; exec "$@"'
    line = ["unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-c", script, "sh"]
    done = pytester.run(*line, sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider")
    done.assert_outcomes(skipped=2)
    limit = "the limit in /proc/sys/user/max_net_namespaces is reached"
    done.stdout.fnmatch_lines([f"SKIPPED*create network namespace: No space left on device ({limit})"])


PROGRAMS = """
#include <netkit.h>
int seen;
SEC("netkit/primary") int first(struct __sk_buff *skb) { seen += 1; return NETKIT_NEXT; }
SEC("netkit/peer") int second(struct __sk_buff *skb) { return NETKIT_DROP; }
"""


@needs_clang
def test_a_program_is_compiled_loaded_and_run(
    bpf_program: Callable[..., Program], bpf_object: Callable[..., BPFObject]
) -> None:
    first = bpf_program(PROGRAMS, "first")
    second = bpf_program(PROGRAMS, "second", cflags=["-DX"])
    packet = bytes(64)
    assert [first.test_run(packet).retval, second.test_run(packet).retval] == [-1, 2]
    opened = bpf_object(PROGRAMS)
    opened.programs["first"].test_run(packet, repeat=3)
    assert opened.variables["seen"].value == 3
    assert bpf_program(PROGRAMS.partition('SEC("netkit/peer")')[0]).name == "first"


@needs_clang
def test_a_program_of_an_object_file_and_one_that_is_not_there(pytester: pytest.Pytester) -> None:
    (pytester.path / "it.bpf.o").write_bytes(compile_source(PROGRAMS))
    pytester.makepyfile(
        """
        from pathlib import Path

        def test_passes(bpf_program):
            assert bpf_program(Path("it.bpf.o"), "second").test_run(bytes(64)).verdict == "drop"

        def test_unclear(bpf_program):
            bpf_program(Path("it.bpf.o"))

        def test_unknown(bpf_program):
            bpf_program(Path("it.bpf.o"), "third")
        """
    )
    done = pytester.runpytest("--netkit=require")
    done.assert_outcomes(passed=1, failed=2)
    done.stdout.fnmatch_lines(["bpf_program needs the name of one of first, second", "*third*first, second*"])
