"""`%%bpf`: a cell with a program in C, as a notebook runs it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from elsewhere import needs_tcx
from ipython_shell import Shell, ipython_shell
from netkit_bpf import NetkitPair, NetNS, Program
from packets import ipv4, ipv6, udp
from veth import veth_pair

SOURCE = """%%bpf {first_line}
#include <netkit.h>

SEC("tc/ingress")
int judge(struct __sk_buff *skb)
{{
	return {verdict};
}}
"""
NO_BOUNDS = """*(__u32 *)(long)skb->data"""


@pytest.fixture
def shell() -> Iterator[Shell]:
    with ipython_shell() as made:
        yield made


@pytest.fixture
def pair(shell: Shell) -> Iterator[NetkitPair]:
    with NetNS.create() as here, NetNS.create() as there, veth_pair(here, there) as made:
        shell.names["device"] = made.primary
        yield made
        shell.names.pop("device")


def cell(first_line: str, verdict: str = "NETKIT_DROP") -> str:
    return SOURCE.format(first_line=first_line, verdict=verdict)


def test_a_cell_leaves_its_programs_loaded_in_a_variable(shell: Shell) -> None:
    assert shell.run(cell("judge")) == ""
    made = shell.names["judge"]
    assert repr(made) == "<BPFCell judge: judge loaded, not attached>"
    assert made.programs["judge"].test_run(bytes(64)).verdict == "drop"
    assert shell.run("judge.close()") == ""
    assert made.closed


def test_a_cell_that_runs_again_takes_the_place_of_the_older_one(shell: Shell) -> None:
    shell.run(cell("judge"))
    older = shell.names["judge"]
    assert shell.run(cell("judge", "NETKIT_PASS")) == ""
    assert older.closed
    assert shell.names["judge"].programs["judge"].test_run(bytes(64)).verdict == "pass"
    shell.names["judge"].close()


def test_arguments_of_clang_reach_it(shell: Shell) -> None:
    assert shell.run(cell("judge --cflags '-DGIVEN=NETKIT_PASS -DUNUSED=1'", "GIVEN")) == ""
    assert shell.names["judge"].programs["judge"].test_run(bytes(64)).verdict == "pass"
    shell.names["judge"].close()


def test_the_compilers_words_are_shown_at_the_line_of_the_cell(shell: Shell) -> None:
    shown = shell.run(cell("judge", "NO_SUCH_WORD"))
    assert "CompileError: the compiler refused it, line 7 of the cell, column 9" in shown
    assert "cell:7:9: error: use of undeclared identifier 'NO_SUCH_WORD'" in shown
    assert "Traceback" not in shown
    assert "netkit_bpf/" not in shown
    assert "judge" not in shell.names


def test_the_verifiers_words_are_shown_without_pythons_frames(shell: Shell) -> None:
    shown = shell.run(cell("judge", NO_BOUNDS))
    assert "VerifierError: the kernel's verifier refused it" in shown
    assert "invalid access to packet" in shown
    assert "Traceback" not in shown
    assert "netkit_bpf/" not in shown


@pytest.mark.parametrize(
    ("first_line", "words"),
    [
        ("judge --attach nothing:ingress", "UsageError: --attach nothing:ingress: "),
        ("judge --attach lo", "UsageError: --attach lo: it must be DEVICE:SIDE"),
        ("judge --attach lo:peer", "UsageError: --attach lo:peer: lo is a plain device, not a netkit device"),
        ("5judge", "UsageError: %%bpf 5judge: the name must be one of a Python variable"),
        ("taken", "UsageError: %%bpf taken: taken is a int already; take another name, or del taken"),
        ("class", "UsageError: %%bpf class: the name must be one of a Python variable"),
        ("print", "UsageError: %%bpf print: print is a name of Python itself; take another name"),
        ("judge --cflags '-O1", "UsageError: a quote is not closed: judge --cflags '-O1"),
        ("judge --cflags '-DX=\"a'", "UsageError: a quote is not closed: '-DX=\"a'"),
        ("", "UsageError: the following arguments are required: name"),
    ],
)
def test_a_first_line_that_is_wrong_is_refused_in_one_line(shell: Shell, first_line: str, words: str) -> None:
    shell.names["taken"] = 5
    shown = shell.run(cell(first_line))
    assert words in shown
    assert "Traceback" not in shown


@needs_tcx
def test_a_cell_swaps_its_program_and_one_that_fails_changes_nothing(shell: Shell, pair: NetkitPair) -> None:
    assert shell.run(cell("judge --attach device:ingress")) == ""
    first = shell.names["judge"]
    link = first.links["device:ingress"]
    assert repr(first) == "<BPFCell judge: judge on device:ingress>"

    for bad, error in (("NO_SUCH_WORD", "CompileError"), (NO_BOUNDS, "VerifierError")):
        shown = shell.run(cell("judge --attach device:ingress", bad))
        assert error in shown
        assert shown.rstrip().endswith("What ran before is still attached.")
        assert shell.names["judge"] is first
        assert [each.link_id for each in pair.primary.programs("ingress").programs] == [link.id]

    before = pair.primary.programs("ingress").programs[0].id
    assert shell.run(cell("judge --attach device:ingress", "NETKIT_PASS")) == ""
    (attached,) = pair.primary.programs("ingress").programs
    assert attached.link_id == link.id
    assert attached.id != before
    assert first.closed
    assert not link.closed
    shell.names["judge"].close()
    assert pair.primary.programs("ingress").programs == ()


@needs_tcx
def test_a_program_behind_a_filter_sees_what_matches_and_is_swapped_like_another(
    shell: Shell, pair: NetkitPair
) -> None:
    frames = {"udp": ipv4(17, udp()), "icmp6": ipv6(58, bytes(8))}

    def verdicts() -> dict[str, str]:
        (attached,) = pair.primary.programs("ingress").programs
        program = Program._open_id(attached.id, "")
        return {name: str(program.test_run(frame).verdict) for name, frame in frames.items()}

    first_line = "judge --filter 'udp port 53' --attach device:ingress"
    assert shell.run(cell(first_line)) == ""
    first = shell.names["judge"]
    link = first.links["device:ingress"]
    assert repr(first) == "<BPFCell judge: judge on device:ingress filter='udp port 53'>"
    assert verdicts() == {"udp": "drop", "icmp6": "next"}
    for line in ("judge --attach device:ingress --filter 'udp port'", "judge --filter udp"):
        assert "Error" in shell.run(cell(line))
        assert verdicts() == {"udp": "drop", "icmp6": "next"}
    assert shell.run(cell("judge --filter icmp6 --attach device:ingress", "NETKIT_PASS")) == ""
    assert shell.names["judge"].links["device:ingress"] is link
    assert verdicts() == {"udp": "next", "icmp6": "pass"}
    assert shell.run(cell("judge --attach device:ingress")) == ""
    assert verdicts() == {"udp": "drop", "icmp6": "drop"}
    shell.names["judge"].close()
    assert pair.primary.programs("ingress").programs == ()


@needs_tcx
def test_a_cell_lets_go_of_hooks_that_it_names_no_more(shell: Shell, pair: NetkitPair) -> None:
    both = SOURCE.format(first_line="judge --attach device:ingress --attach device:egress", verdict="NETKIT_NEXT")
    both += 'SEC("tc/egress") int other(struct __sk_buff *skb) { return NETKIT_NEXT; }\n'
    assert shell.run(both) == ""
    assert [each.name for each in pair.primary.programs("egress").programs] == ["other"]
    assert shell.run(cell("judge --attach device:ingress")) == ""
    assert pair.primary.programs("egress").programs == ()
    shell.names["judge"].close()


@needs_tcx
def test_a_program_that_cannot_be_attached_leaves_the_others_as_they_were(shell: Shell, pair: NetkitPair) -> None:
    assert shell.run(cell("judge --attach device:ingress")) == ""
    first = shell.names["judge"]
    (before,) = pair.primary.programs("ingress").programs
    two = SOURCE.format(first_line="judge --attach device:ingress --attach device:egress", verdict="NETKIT_NEXT")
    two += 'SEC("xdp") int egress(struct xdp_md *context) { return 2; }\n'.replace('"xdp"', '"xdp/egress"')
    shown = shell.run(two)
    assert "What ran before is still attached." in shown
    assert shell.names["judge"] is first
    assert pair.primary.programs("ingress").programs == (before,)
    first.close()


@needs_tcx
def test_a_cell_attaches_anew_where_its_device_is_gone(shell: Shell, pair: NetkitPair) -> None:
    assert shell.run(cell("judge --attach device:ingress")) == ""
    first_link = shell.names["judge"].links["device:ingress"].id
    pair.delete()
    with NetNS.create() as here, NetNS.create() as there, veth_pair(here, there) as other:
        shell.names["device"] = other.primary
        assert shell.run(cell("judge --attach device:ingress")) == ""
        (attached,) = other.primary.programs("ingress").programs
        assert attached.link_id != first_link
        shell.names["judge"].close()


def test_programs_of_which_none_is_meant_are_listed(shell: Shell, pair: NetkitPair) -> None:
    two = cell("judge --attach device:egress") + 'SEC("tc/ingress") int other(struct __sk_buff *skb) { return 0; }\n'
    shown = shell.run(two)
    assert "is for the egress hook is not clear" in shown
    assert 'judge (SEC("tc/ingress")), other (SEC("tc/ingress"))' in shown
    assert "Traceback" not in shown


def test_doctor_speaks_in_a_cell(shell: Shell) -> None:
    assert "privilege" in shell.run("%netkit doctor")


def test_what_netkit_does_not_know_is_refused_in_one_line(shell: Shell) -> None:
    of_time = ("monitor nk0 --seconds -1", "monitor nk0 --seconds nan", "monitor nk0 -c 0")
    for wrong in ("monitor", "monitor nothing", "pairs nk0", "dance", "monitor 'nk0", *of_time):
        shown = shell.run(f"%netkit {wrong}")
        assert shown.startswith("UsageError: "), shown
        assert len(shown.splitlines()) == 1
