"""Global variables, as Python sets them and programs see them, and the other way round."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from elsewhere import needs_global_locks
from netkit_bpf import BPFObject
from programs import HEADER, build

SOURCE = (
    HEADER
    + """
struct limits { __u16 least, most; enum { OFF, ON = 3 } state; };
const volatile __u16 port = 80;
const volatile struct limits limits = { 1, 2, ON };
const volatile char label[8] = "first";
volatile __u64 runs;
volatile __s32 verdict = 2;
volatile _Bool enabled = 1;
volatile __u8 mac[6];
volatile __u32 table[3] = { 1, 2, 3 };
volatile struct limits seen;
volatile __s64 far SEC(".data.apart") = -5;
static volatile __u32 own SEC(".data.own") = 40;
volatile void *where;

SEC("netkit/peer") int judge(struct __sk_buff *skb)
{
	runs++;
	own += 2;
	where = skb;
	seen.least = limits.least;
	seen.most = port;
	seen.state = label[0] == 'f' ? OFF : ON;
	table[1] += mac[5];
	return enabled ? verdict : (int)far;
}
"""
)
PACKET = bytes(60)


@pytest.fixture
def obj() -> Iterator[BPFObject]:
    opened = BPFObject.open(build(SOURCE))
    yield opened
    opened.close()


def values(obj: BPFObject, *names: str) -> tuple[Any, ...]:
    return tuple(obj.variables[name].value for name in names)


def test_variables_have_names_sections_types_and_first_values(obj: BPFObject) -> None:
    sections = {name: variable.section for name, variable in obj.variables.items()}
    assert sections["port"] == ".rodata"
    assert sections["verdict"] == ".data"
    assert sections["runs"] == ".bss"
    assert (sections["far"], sections["own"]) == (".data.apart", ".data.own")
    assert values(obj, "port", "label", "runs", "verdict", "enabled") == (80, b"first", 0, 2, True)
    assert values(obj, "mac", "table", "far", "own", "where") == (bytes(6), (1, 2, 3), -5, 40, 0)
    assert values(obj, "limits")[0]._asdict() == {"least": 1, "most": 2, "state": 3}
    assert obj.variables["port"].type == "unsigned short"
    assert repr(obj.variables["port"]) == "<Variable unsigned short port (.rodata) = 80>"
    with pytest.raises(KeyError, match=r"no variable 'nix': there are .*port"):
        obj.variables["nix"]
    with pytest.raises(TypeError, match=r"a variable cannot be replaced: set variables\['port'\].value"):
        obj.variables["port"] = 443  # type: ignore[index]


def test_what_is_set_before_load_is_seen_by_the_program(obj: BPFObject) -> None:
    obj.variables["port"].value = 443
    obj.variables["limits"].value = (7, 9, "OFF")
    obj.variables["label"].value = "second"
    obj.variables["verdict"].value = -1
    obj.variables["mac"].value = b"\0\0\0\0\0\x0a"
    with obj:
        assert obj.programs["judge"].test_run(PACKET).retval == -1
        seen = obj.variables["seen"].value
        assert (seen.least, seen.most, seen.state.name) == (7, 443, "ON")
        assert values(obj, "runs", "table", "own") == (1, (1, 12, 3), 42)
        assert values(obj, "port", "label") == (443, b"second")
        assert obj.variables["where"].value > 1 << 47  # an address of the kernel's


def test_what_is_set_after_load_is_seen_at_once(obj: BPFObject) -> None:
    with obj:
        judge = obj.programs["judge"]
        assert judge.test_run(PACKET).retval == 2
        obj.variables["verdict"].value = 7
        assert judge.test_run(PACKET).retval == 7
        obj.variables["enabled"].value = False
        assert judge.test_run(PACKET).retval == -5
        obj.variables["far"].value = 1
        obj.variables["own"].value = 0  # in a section without a global variable
        obj.variables["runs"].value = 100
        assert judge.test_run(PACKET).retval == 1
        assert values(obj, "runs", "own") == (101, 2)


def test_constants_are_fixed_by_load(obj: BPFObject) -> None:
    with obj:
        with pytest.raises(ValueError, match="variable 'port' is a constant: set it before its object is loaded"):
            obj.variables["port"].value = 1
        assert obj.variables["port"].value == 80


@pytest.mark.parametrize(
    ("name", "value", "error", "text"),
    [
        ("port", 65536, OverflowError, "variable 'port' must be 0 to 65535, not 65536"),
        ("port", "80", TypeError, "variable 'port' must be an integer, not str"),
        ("verdict", 2**31, OverflowError, "variable 'verdict' must be -2147483648 to 2147483647, not 2147483648"),
        ("enabled", 1, TypeError, "variable 'enabled' must be a bool, not int"),
        ("label", "far too long", ValueError, "variable 'label' must be at most 8 bytes, not 12"),
        ("limits", {"most": -1}, OverflowError, r"variable 'limits'\.most must be 0 to 65535, not -1"),
        ("table", (1, 2), ValueError, "variable 'table' must have 3 elements, not 2"),
        ("where", -1, OverflowError, "variable 'where' must be 0 to 18446744073709551615, not -1"),
    ],
)
@pytest.mark.parametrize("loaded", [False, True], ids=["before load", "after load"])
def test_a_wrong_value_changes_nothing(
    obj: BPFObject, name: str, value: Any, error: type[Exception], text: str, loaded: bool
) -> None:
    before = obj.variables[name].value
    if loaded:
        obj.load()
        if obj.variables[name].section == ".rodata":
            error, text = ValueError, "is a constant"
    with pytest.raises(error, match=text):
        obj.variables[name].value = value
    assert obj.variables[name].value == before


def test_setting_one_variable_leaves_its_neighbours_alone(obj: BPFObject) -> None:
    """The program counts in the same section all the while; nothing of its counting is undone."""
    with obj:
        judge = obj.programs["judge"]
        thread = threading.Thread(target=judge.test_run, args=(PACKET,), kwargs={"repeat": 300_000})
        thread.start()
        while thread.is_alive():
            obj.variables["mac"].value = bytes(6)
            obj.variables["verdict"].value = 2
        thread.join()
        assert obj.variables["runs"].value == 300_000


def test_use_after_close_is_a_value_error(obj: BPFObject) -> None:
    port = obj.variables["port"]
    obj.close()
    obj.close()
    assert obj.closed
    with pytest.raises(ValueError, match="the object of variable 'port' is closed"):
        repr(port.value)
    with pytest.raises(ValueError, match="the object of variable 'port' is closed"):
        port.value = 1
    assert repr(port) == "<Variable unsigned short port (.rodata) closed>"


def test_an_object_without_types_says_so() -> None:
    with BPFObject.open(build(SOURCE, "-g0")) as obj:
        assert obj.programs["judge"].test_run(PACKET).retval == 2
        with pytest.raises(ValueError, match=r"BPF object object has no BTF, .*compile it with -g"):
            obj.variables["port"]


STATIC = (
    HEADER
    + """
struct pair { __u32 a, b; };
static volatile __u64 hits;
static volatile __u32 mode;
static volatile struct pair pair;
static volatile __u16 table[5];
static volatile __u8 mac[6];
static volatile __u64 first SEC(".data.first") = 1, rest[3] SEC(".data.first");
SEC("netkit/peer") int count(struct __sk_buff *skb)
{
	hits++;
	first++;
	return mode + pair.a + table[skb->len & 3] + mac[skb->len & 3] + (int)rest[0];
}
"""
)


def test_static_variables_alone_are_set_without_their_neighbours() -> None:
    with BPFObject.open(build(STATIC)) as obj:
        thread = threading.Thread(target=obj.programs["count"].test_run, args=(PACKET,), kwargs={"repeat": 1_000_000})
        thread.start()
        written = 0
        while thread.is_alive():
            number = written & 0xFF
            obj.variables["mode"].value = number
            obj.variables["pair"].value = (number, 1)
            obj.variables["table"].value = (1, 2, 3, 4, number)
            obj.variables["mac"].value = bytes([number] * 6)
            obj.variables["rest"].value = (0, number, 1)
            written += 1
        thread.join()
        assert values(obj, "hits", "first") == (1_000_000, 1_000_001)
        assert written > 1
        assert values(obj, "pair", "table")[0].b == 1


def test_every_number_in_a_larger_value_is_written_whole() -> None:
    """Two values with nothing in common: the program never sees a number that is half of one and half of the other."""
    source = (
        HEADER
        + """
struct all { __u8 before; __u16 two; __u32 four; __u64 eight; __u64 wide[4]; __u16 last; };
static volatile struct all all;
static volatile __u64 torn;
SEC("netkit/peer") int look(struct __sk_buff *skb)
{
	__u64 eight = all.eight, wide = all.wide[3];
	__u32 four = all.four;
	__u16 two = all.two, last = all.last;

	if ((eight && eight + 1) || (wide && wide + 1) || (four && four + 1))
		torn++;
	if ((two && two != 0xffff) || (last && last != 0xffff))
		torn++;
	return 0;
}
"""
    )
    ones, zeros = (255, 0xFFFF, 2**32 - 1, 2**64 - 1, (2**64 - 1,) * 4, 0xFFFF), (0, 0, 0, 0, (0,) * 4, 0)
    with BPFObject.open(build(source)) as obj:
        thread = threading.Thread(target=obj.programs["look"].test_run, args=(PACKET,), kwargs={"repeat": 500_000})
        thread.start()
        while thread.is_alive():
            obj.variables["all"].value = ones
            obj.variables["all"].value = zeros
        thread.join()
        assert obj.variables["torn"].value == 0


@needs_global_locks
def test_a_section_that_cannot_be_mapped_is_set_before_load_alone() -> None:
    source = (
        HEADER
        + """
static struct bpf_spin_lock lock SEC(".data.locked");
static volatile __u32 number SEC(".data.locked"), another SEC(".data.locked");
SEC("netkit/peer") int count(struct __sk_buff *skb)
{
	bpf_spin_lock(&lock);
	number++;
	bpf_spin_unlock(&lock);
	return another;
}
"""
    )
    with BPFObject.open(build(source)) as obj:
        pass
    obj = BPFObject.open(build(source))
    obj.variables["number"].value = 40
    with obj:
        obj.programs["count"].test_run(PACKET)
        assert obj.variables["number"].value == 41
        with pytest.raises(OSError, match=r"section \.data\.locked cannot be mapped, .*set it before load") as caught:
            obj.variables["another"].value = 1
        assert caught.value.errno == errno.EOPNOTSUPP
        assert values(obj, "number", "another") == (41, 0)


def test_a_variable_is_where_it_lies_and_not_where_its_description_says(capfd: pytest.CaptureFixture[str]) -> None:
    """Clang names sections before it chooses them: a constant for merging, and a union without a value."""
    source = (
        HEADER
        + """
static const __u64 limits[2] = { 107, 108 };
const volatile int a = 1, b = 2, c = 3, d = 4;
union address { __u8 bytes[4]; struct in6_addr ip; } last = { 0 };
int first = 7, second = 8, third = 9, fourth = 10;
SEC("netkit/peer") int adds(struct __sk_buff *skb)
{
	return limits[skb->len & 1] + a + b + c + d + first + second + third + fourth + last.bytes[0];
}
"""
    )
    obj = BPFObject.open(build(source, "-Wno-missing-braces"))
    variables = obj.variables
    assert variables["limits"].value == (107, 108)
    variables["limits"].value = (1000, 1000)
    assert values(obj, "a", "b", "c", "d") == (1, 2, 3, 4)
    with obj:
        assert obj.programs["adds"].test_run(PACKET).retval == 1000 + 10 + 34
        variables["last"].value = {"bytes": bytes([5] * 4)}
        assert values(obj, "first", "second", "third", "fourth") == (7, 8, 9, 10)
        assert obj.programs["adds"].test_run(PACKET).retval == 1000 + 10 + 34 + 5
    capfd.readouterr()  # libbpf says that the kernel does not take this BTF


def test_a_variable_takes_the_room_of_its_first_value() -> None:
    source = (
        HEADER
        + """
struct list { __u32 count; __u16 of[]; };
volatile struct list list = { 4, { 1, 2, 3, 4 } };
SEC("netkit/peer") int look(struct __sk_buff *skb) { return list.of[2]; }
"""
    )
    with BPFObject.open(build(source)) as obj:
        assert obj.variables["list"].value == (4, (1, 2, 3, 4))
        obj.variables["list"].value = (4, (5, 6, 7, 8))
        assert obj.programs["look"].test_run(PACKET).retval == 7


def test_an_object_that_failed_to_load_has_no_variables_any_more() -> None:
    source = (
        HEADER
        + """
volatile __u32 number;
SEC("netkit/peer") int reads(struct __sk_buff *skb) { return *(volatile int *)(long)skb->data_end + number; }
"""
    )
    obj = BPFObject.open(build(source))
    with pytest.raises(OSError, match="load program 'reads'"):
        obj.load()
    for use in (lambda: obj.variables["number"].value, lambda: setattr(obj.variables["number"], "value", 1), obj.load):
        with pytest.raises(ValueError, match="failed"):
            use()
    assert repr(obj) == "<BPFObject object failed to load>"
    assert repr(obj.variables["number"]) == "<Variable unsigned int number (.bss) of an object that failed to load>"
    obj.close()
