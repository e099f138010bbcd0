# SPDX-License-Identifier: MIT
"""Rules as values and as text."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import random
import re
import time
from ipaddress import ip_network

import pytest

from firewall_reference import Chance
from netkit_bpf import Rule, Ruleset, Side, Verdict

PATIENCE = 20.0  # seconds of the CPU: far more than it takes, far less than what it took
THOROUGHNESS = int(os.environ.get("NETKIT_BPF_MUTATIONS", "100000"))
LINES = [
    "pass tcp from any to any port 22 rate 3/min burst 10",
    'pass rate 1000000000/s label "all"',
    "pass",
    "drop peer ip6 tcp from any to fd00::/64 port 12345",
    "pass primary ip from 10.0.0.0/8 to { 192.0.2.1, 198.51.100.0/24 }",
    "drop ip6 from { fd00::/8, 2001:db8::1 } to any",
    "pass ip from { 10.0.0.0/8, fd00::/8 }",
    "drop arp",
    "pass proto { tcp, udp } from any port 1024-65535 to any port { 53, 80-90, 443 }",
    "pass proto 47",
    "drop tcp to any port 0-65535 flags S/SA",
    "drop tcp flags /SRFPAUEW",
    "pass icmp icmp-type { echoreq, unreach, 13-14 }",
    "pass icmp6 icmp-type { neighbrsol, neighbradv } code 0",
    "drop length { 0-63, 9000-65535 }",
    "drop fragment",
    "drop ip6 fragment later",
    "drop peer log proto tcp from any to any port 22",
    'pass udp fragment first label "a \\"name\\" with \\\\ and ü"',
]


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_read_and_written_as_the_same_rule(line: str) -> None:
    rule = Rule.parse(line)
    assert Rule.parse(str(rule)) == rule
    assert str(Rule.parse(str(rule))) == str(rule)


@pytest.mark.parametrize("seed", range(200))
def test_random_lines_are_read_and_written_as_the_same_rules(seed: int) -> None:
    lines = list(map(str, Chance(seed).lines(20)))
    rules = Ruleset.parse("\n".join(lines))
    assert Ruleset.parse(str(rules)) == rules
    assert [Rule.parse(line) for line in lines] == list(rules)
    assert [rule.line for rule in rules] == list(range(1, 21))


def test_a_rule_has_the_values_that_its_line_tells() -> None:
    line = 'drop peer ip6 tcp from { fd00::/64, ::1 } port > 1023 to <web> port { 80, 443 } flags S/SA label "x"'
    rule = Rule.parse(line)
    assert (rule.action, rule.side, rule.family, rule.protocol) == (Verdict.DROP, Side.PEER, "ip6", ("tcp",))
    assert (rule.src, rule.dst) == ((ip_network("fd00::/64"), ip_network("::1")), "<web>")
    assert (rule.src_port, rule.dst_port) == ((range(1024, 65536),), (range(80, 81), range(443, 444)))
    assert (rule.tcp_flags, rule.name, rule.icmp_type, rule.icmp_code) == ("S/SA", "x", (), None)
    assert (rule.length, rule.fragment, rule.line) == ((), None, None)


def test_a_rate_is_read_in_the_words_of_nft_and_written_short() -> None:
    rule = Rule.parse("pass udp rate 20/minute burst 5")
    assert str(rule) == "pass udp rate 20/min"
    assert (rule.rate, rule.burst) == ("20/min", 5)
    assert Rule("pass", protocol="udp", rate="20/min") == rule
    assert Rule("pass", protocol="udp", rate="20/min", burst=6) != rule
    assert (Rule("pass").rate, Rule("pass").burst) == (None, None)


OF_PACKETS = "expected ip, ip6, arp, a protocol (tcp, proto 47), from, to, flags, icmp-type, length or fragment"
WORDS = {
    "tcp from fd00::1 port 1024 to fd00::2 port 22": 0,
    "tcp from fd00::1 port 1024 to fd00::2 port 22 flags SA": 4,
    "udp from 10.0.0.1 port 7 to 10.0.0.2 port 53": 1,
    "udp from 10.0.0.1 port 7 to 10.0.0.2 port 53 length 1000": 4,
    "udp fragment first from 10.0.0.1 port 7 to 10.0.0.2 port 53": 1,
    "udp fragment later from 10.0.0.1 to 10.0.0.2": 3,
    "icmp from 10.0.0.1 to 10.0.0.2 icmp-type echoreq": 2,
    "icmp from 10.0.0.1 to 10.0.0.2 icmp-type echoreq code 1": 4,
    "icmp6 icmp-type 135 from fd00::1 to fd00::2": 4,
    "proto 47 from 10.0.0.1 to 10.0.0.3": None,
    "arp": 5,
}


@pytest.mark.parametrize(("words", "number"), WORDS.items())
def test_a_packet_is_told_in_the_words_of_rules(words: str, number: int | None) -> None:
    rules = Ruleset(
        [
            "drop peer tcp to any port 22 flags S/SA",
            "pass peer udp from 10.0.0.1 port 7 length 42",
            "pass peer icmp icmp-type echoreq code 0",
            "pass peer fragment later length 34",
            "pass peer to { 10.0.0.2, fd00::2 } length 34-1000",
            "drop peer arp",
        ]
    )
    assert rules.match(words, "peer") == number
    assert rules.match(words, Side.PRIMARY) is None


@pytest.mark.parametrize(
    ("words", "column", "problem"),
    [
        ("tcp from fd00::1 to fd00::2", 1, "one port at each end: say from ADDRESS port PORT"),
        ("tcp from fd00::1 port 1 to fd00::2 port 1-2", 1, "one port at each end: say to ADDRESS port PORT"),
        ("tcp from fd00::/64 port 1 to fd00::2 port 1", 1, "one address: say from ADDRESS"),
        ("tcp from fd00::1 port 1 to 10.0.0.1 port 1", 1, "it never matches"),
        ("icmp from 10.0.0.1 to 10.0.0.2", 1, "one type: say icmp-type TYPE"),
        ("from 10.0.0.1 to 10.0.0.2", 1, "one protocol"),
        ("udp from 10.0.0.1 port 7 to 10.0.0.2 port 53 log", 46, f"{OF_PACKETS}, not 'log'"),
        ("peer arp", 1, f"{OF_PACKETS}, not 'peer'"),
        ("arp rate 1/s", 5, f"{OF_PACKETS}, not 'rate'"),
        ('arp label "x"', 5, f"{OF_PACKETS}, not 'label'"),
        ("arp , tcp", 5, "expected a word such as from, to or tcp, not ','"),
        ("arp\narp", 1, "expected one packet alone"),
        ("tcp from fd00::1 port 1 to fd00::2 port 1 flags S/SA", 49, "the flags that are set, of the letters"),
        ("tcpp", 1, f"{OF_PACKETS}, not 'tcpp'"),
        ("86dd60", 1, f"{OF_PACKETS}, not '86dd60'"),
        ("", 1, "expected a packet, not nothing"),
    ],
)
def test_words_that_are_no_packet_are_refused_with_their_place(words: str, column: int, problem: str) -> None:
    with pytest.raises(ValueError, match=rf"line \d, column {column}: .*{re.escape(problem)}"):
        Ruleset(["pass"]).match(words, "peer")
    with pytest.raises(ValueError, match="side is whose packet it is"):
        Ruleset(["pass"]).match(words)


def test_log_stands_where_pf_has_it_and_is_read_anywhere_once() -> None:
    rule = Rule.parse("block peer proto tcp to any port 22 log")
    assert str(rule) == "drop peer log tcp from any to any port 22"
    assert rule == Rule("drop", side="peer", log=True, protocol="tcp", dst_port=22)
    assert (rule.log, Rule("drop").log) == (True, False)
    assert rule != Rule("drop", side="peer", protocol="tcp", dst_port=22)
    with pytest.raises(ValueError, match="line 1, column 14: log is given twice"):
        Rule.parse("pass tcp log log")
    with pytest.raises(TypeError, match="log must be a bool"):
        Rule("drop", log=1)  # type: ignore[arg-type]


def test_a_rule_of_arguments_is_that_of_its_line() -> None:
    made = Rule(
        "drop",
        side="peer",
        family=6,
        src=["fd00::/64", ip_network("::1")],
        dst="<web>",
        protocol="tcp",
        src_port=range(1024, 65536),
        dst_port=[80, "443"],
        tcp_flags="S/SA",
        name="x",
    )
    line = 'drop peer ip6 tcp from { fd00::/64, ::1 } port >= 1024 to <web> port { 80, 443 } flags S/SA label "x"'
    assert made == Rule.parse(line)
    assert hash(made) == hash(Rule.parse(line))
    assert Rule("pass", icmp_type="echoreq", protocol="icmp6") == Rule.parse("pass icmp6 icmp-type 128")
    assert Rule("pass", protocol=["tcp", 17]).protocol == ("tcp", "udp")


def test_a_rule_is_a_value() -> None:
    rule = Rule("pass", dst_port=80)
    assert pickle.loads(pickle.dumps(rule)) == rule
    assert copy.deepcopy(rule) == rule
    assert {rule: 1}[Rule.parse("pass from any to any port 80")] == 1
    assert rule != Rule("pass", dst_port=80, name="web")
    with pytest.raises(AttributeError, match="does not change"):
        rule.action = "drop"  # type: ignore[misc, assignment]
    rules = Ruleset([rule, "drop"], {"friends": ["10.0.0.0/8"]})
    assert pickle.loads(pickle.dumps(rules)) == rules


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"action": "reject"}, "action must be 'pass' or 'drop', not 'reject'"),
        ({"side": "left"}, "side must be 'primary' or 'peer', not 'left'"),
        ({"family": 5}, "family must be 'ip', 'ip6' or 'arp', not 5"),
        ({"dst": "10.0.0.1/8"}, "dst '10.0.0.1/8': 10.0.0.1/8 has host bits set: write 10.0.0.0/8 for the network or"),
        (
            {"dst": "::ffff:10.0.0.0/104"},
            "IPv4 address in IPv6's notation, which packets do not carry: write 10.0.0.0/8",
        ),
        ({"dst": "any port 80"}, "expected the end, not 'port'"),
        ({"dst": []}, "dst is empty: leave it out for any"),
        ({"dst_port": 65536}, "expected a port (0 to 65535) or a range of them (80-90), not '65536'"),
        ({"dst_port": "90-80"}, "the range 90-80 is reversed: write 80-90"),
        ({"dst_port": range(0)}, "dst_port must be a range with numbers and step 1"),
        ({"dst_port": -1}, "expected a port"),
        ({"dst_port": 80, "protocol": "icmp"}, "icmp has no ports"),
        ({"protocol": "tpc"}, "expected a protocol"),
        ({"protocol": 256}, "expected a protocol"),
        ({"icmp_type": 8}, "icmp-type stands behind the protocol icmp or icmp6"),
        ({"icmp_type": 256, "protocol": "icmp"}, "expected an ICMP type"),
        ({"icmp_code": 0, "protocol": "icmp"}, "a code needs an icmp-type"),
        ({"tcp_flags": "S/SA"}, "flags are for the protocol tcp alone"),
        ({"tcp_flags": "SR/S", "protocol": "tcp"}, "never matches"),
        ({"fragment": "second"}, "fragment must be 'any', 'first' or 'later', not 'second'"),
        ({"fragment": "later", "dst_port": 80}, "later fragments have no ports"),
        (
            {"family": "ip6", "src": "10.0.0.0/8"},
            "it never matches: its family, addresses and protocols are not of",
        ),
        ({"src": "10.0.0.0/8", "dst": "fd00::/8"}, "it never matches"),
        ({"name": "two\nlines"}, "must be one line of printable letters"),
        ({"length": 70000}, "expected a length"),
        (
            {"rate": "fast"},
            "rate 'fast burst 5': expected a rate (100/s, 20/min, 5/h or 1/d, to 1000000000), not",
        ),
        ({"rate": "1/s", "burst": 0}, "expected how many packets at once (1 to 1000000000), not '0'"),
        ({"action": "drop", "rate": "1/s"}, "a rate is for pass: what exceeds it is dropped"),
    ],
)
def test_impossible_arguments_are_refused_by_name(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Rule(**{"action": "pass", **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pass\nallow tcp", "line 2, column 1: expected pass, drop, table or a variable (name = value), not 'allow'"),
        (
            "drop tcp to any port htp",
            "column 22: expected a port (0 to 65535) or a range of them (80-90), not 'htp'",
        ),
        (
            "  drop tcp to port",
            "column 19: expected a port (0 to 65535) or a range of them (80-90), not the end",
        ),
        ("drop from 10.0.0.300", "line 1, column 11: expected any, an address, a network"),
        ("drop from 10.0.0.0/33", "column 11: expected a prefix length from 0 to 32 behind 10.0.0.0/"),
        ("drop from fe80::1%eth0", "an address in a rule has no zone"),
        ("drop tcp from any to <bad>", "line 1, column 22: there is no table <bad> above this line"),
        ("drop to any port $web", "column 18: there is no variable $web above this line"),
        ("web = 80\nweb = 81", "line 2, column 1: the variable $web has a value already"),
        ("web =", "expected a value for the variable"),
        ("table <x> { 10.0.0.0/8 }\ntable <x> { }", "line 2, column 7: there is a table <x> already"),
        ("table <x> 10.0.0.0/8", "expected the addresses of the table in braces, not '10.0.0.0/8'"),
        ("drop to any port { 80, 443", "column 18: there is no } to this {"),
        ("drop to any port 80 }", "column 21: there is no { to this"),
        ("drop to any port { }", "there is nothing between these braces"),
        ("drop to any port { 80,, 443 }", "expected a port"),
        ("drop ip ip6", "column 9: the family is given twice"),
        ("drop from any port 1 from any port 2", "is given twice"),
        ("drop tcp udp", "the protocol is given twice"),
        ('drop label "x', "column 12: expected a quotation mark at the end of this text"),
        ("drop label x", "expected a text in quotation marks, not 'x'"),
        ("drop tcp; pass", "column 9: expected a word, not ;"),
        ("drop \x00", "expected a word, not a control character"),
        ("drop ünd", "column 6: expected a word, not ü"),
        ("drop icmp-type 8", "icmp-type stands behind the protocol icmp or icmp6"),
        ("drop icmp6 icmp-type echoreq to 10.0.0.1", "line 1, column 1: it never matches"),
        ("drop to any port > 65535", "no number is > 65535"),
        ("pass rate 0/s", "column 11: expected a rate (100/s, 20/min, 5/h or 1/d, to 1000000000), not '0/s'"),
        ("pass rate 1/week", "expected a rate"),
        ("pass rate 1/s burst", "column 20: expected how many packets at once (1 to 1000000000), not the end"),
        ("pass rate 1/s rate 2/s", "column 20: the rate is given twice"),
        ("drop rate 1/s", "a rate is for pass"),
    ],
)
def test_an_error_names_line_and_column_and_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="line .*" + re.escape(message.removeprefix("line "))):
        Ruleset.parse(text)


def test_an_error_points_at_its_column() -> None:
    with pytest.raises(ValueError, match="line 2, column 24") as refused:
        Ruleset.parse("pass\n  drop tcp to any port htp  # web\n")
    line, pointer = str(refused.value).splitlines()[1:]
    assert line[pointer.index("^") :].startswith("htp  # web")


def test_comments_variables_tables_and_braces_over_several_lines() -> None:
    rules = Ruleset.parse(
        """
# what is served
web = { 80, 443 }
all = { $web, 8080 }
side = "peer"  # a text stands for nothing in a rule
table <friends> {
    192.0.2.0/24,   # the office
    fd00::/8
}
table <later> { }
block tcp from ! to any
""".replace("block tcp from ! to any", "block peer tcp from <friends> to any port $all")
    )
    assert list(map(str, rules)) == ["drop peer tcp from <friends> to any port { 80, 443, 8080 }"]
    assert rules.sets == {"friends": (ip_network("192.0.2.0/24"), ip_network("fd00::/8")), "later": ()}
    assert rules[0].line == 11


def test_variables_in_variables_cannot_fill_the_memory() -> None:
    doubling = "\n".join(["a0 = { 1, 1 }", *(f"a{n + 1} = {{ $a{n}, $a{n} }}" for n in range(40))])
    with pytest.raises(ValueError, match="too long"):
        Ruleset.parse(f"{doubling}\ndrop to any port $a40")


def test_rules_that_never_decide_are_told_with_both_lines() -> None:
    rules = Ruleset.parse("""drop tcp to any port 22
pass tcp from 10.0.0.0/8 to any port 22
drop tcp to any port 22
pass peer udp
drop udp
pass primary udp to 10.0.0.1
pass ip6
drop peer ip6 tcp from any to fd00::/64 port 12345
table <none> { }
drop from <none>
pass
drop arp
""")
    told = [(text.split(" (")[0], "contrary" in text, "repeats" in text) for text in rules.warnings]
    assert told == [
        ("line 2", True, False),
        ("line 3", False, True),
        ("line 6", True, False),
        ("line 8", True, False),
        ("line 12", True, False),
    ]
    assert "line 1 (drop tcp from any to any port 22)" in rules.warnings[0]
    assert Ruleset(["pass", "pass"]).warnings == ("rule 2 (pass) repeats rule 1 (pass)",)


def test_a_rule_that_hides_another_is_found_behind_hundreds_that_overlap_both() -> None:
    overlapping = [f"pass tcp from any port {{ 1, {n} }} to any length {{ 100, {n} }}" for n in range(1000, 1600)]
    hiding, hidden = "drop tcp from any port 1-5 to any", "pass tcp from any port { 1, 5 } to any length { 100, 101 }"
    (text,) = Ruleset([*overlapping, hiding, hidden]).warnings
    assert text.startswith("rule 602 ")
    assert f"never decides: rule 601 ({hiding}) matches all that it matches, and does the contrary" in text


def test_rules_that_all_overlap_are_compared_in_bounded_time_which_is_said() -> None:
    rules = Ruleset.parse("\n".join(f"pass length {{ 1, {n} }}" for n in range(10, 4010)))
    (last,) = rules.warnings
    assert last.startswith("from line 28")  # by then there were four million comparisons
    assert last.endswith(" on a rule was compared with some of those that overlap it, not with all: too many do")


def test_a_hundred_thousand_rules_that_are_equal_are_told_in_bounded_time() -> None:
    start = time.thread_time()
    warnings = Ruleset.parse("drop udp\n" * 100_000).warnings
    assert time.thread_time() - start < PATIENCE
    assert warnings[0] == "line 2 (drop udp) repeats line 1 (drop udp)"
    assert len(warnings) == 100_000  # of each but the first, and that not all were compared
    assert warnings[-1].startswith("from line 10")


def test_no_rule_that_can_decide_is_said_never_to() -> None:
    """Each line of random ones is tried on packets: one that decides of a packet must not be warned of."""
    assert Ruleset.parse("pass tcp to any port 80-90\ndrop tcp to any port 85-95").warnings == ()
    assert Ruleset.parse("pass from 10.0.0.0/8\ndrop from { 10.0.0.0/8, 11.0.0.0/8 }").warnings == ()
    assert Ruleset.parse("drop tcp flags S/SA\npass tcp flags S/S").warnings == ()
    assert Ruleset.parse("drop tcp flags S/S\npass tcp flags S/SA").warnings != ()
    assert Ruleset.parse("drop fragment first\npass fragment").warnings == ()
    assert Ruleset.parse("drop from any to any port 80\npass tcp").warnings == ()
    assert Ruleset.parse("drop from 0.0.0.0/0\npass").warnings == ()
    assert Ruleset.parse("drop from { 0.0.0.0/0, ::/0 }\npass ip6").warnings != ()


def test_a_set_is_replaced_in_a_new_ruleset() -> None:
    rules = Ruleset(["drop from <bad>"], {"bad": "10.0.0.0/8"})
    other = rules.with_set("bad", ["192.0.2.1", "fd00::/8"])
    assert rules.sets == {"bad": (ip_network("10.0.0.0/8"),)}
    assert other.sets == {"bad": (ip_network("192.0.2.1"), ip_network("fd00::/8"))}
    assert list(other) == list(rules)
    with pytest.raises(KeyError, match="good"):
        rules.with_set("good", [])
    with pytest.raises(ValueError, match="host bits"):
        rules.with_set("bad", "10.0.0.1/8")
    with pytest.raises(ValueError, match="names a set that is not given: <bad>"):
        Ruleset(["drop from <bad>"])
    with pytest.raises(ValueError, match="name of a set"):
        Ruleset([], {"a b": []})


def test_mutated_and_random_texts_are_read_or_refused() -> None:
    """Whatever the text is: a ruleset, or a ValueError that names a place."""
    chance = random.Random(1)
    others = ["table <x> { 10.0.0.0/8, fd00::/8 }", "web = { 80, 443 }", "$web <x> > < >= = ! # \\"]
    words = " ".join([*LINES, *others]).split()
    letters = 'abcdefghijklmnopqrstuvwxyz0123456789 {}<>,"$#=/-:.\n\t\\\0üπ𝄞'
    for _ in range(THOROUGHNESS):
        kind = chance.random()
        if kind < 0.4:
            text = list("\n".join(chance.sample(LINES, chance.randint(1, 4))))
            for _ in range(chance.randint(1, 5)):
                at = chance.randrange(len(text) + 1)
                text[at : at + chance.choice([0, 1, 1, 5])] = chance.choice([*letters, *words, ""])
            candidate = "".join(text)
        elif kind < 0.8:
            candidate = " ".join(chance.choices(words, k=chance.randint(1, 15))).replace(" | ", "\n")
        else:
            candidate = "".join(chance.choices(letters, k=chance.randint(0, 60)))
        with contextlib.suppress(ValueError):
            rules = Ruleset.parse(candidate)
            again = Ruleset.parse(str(rules))  # which is read, and says the same
            assert again == rules, candidate
