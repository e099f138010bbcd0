"""What is said of programs and maps that the kernel or libbpf refuses: why, and what to do."""

from __future__ import annotations

import errno
import os
import platform
import resource
from pathlib import Path

import pytest

from in_child import in_child
from netkit_bpf import BPFObject, Map, VerifierError
from programs import HEADER, VERDICTS, build

PLAIN = 'SEC("netkit/peer") int plain(struct __sk_buff *skb) { return 0; }\n'
MAP = """struct {{ __uint(type, BPF_MAP_TYPE_{0}); __uint(max_entries, {1}); __uint(key_size, {2});
	__uint(value_size, {3}); __uint(map_flags, {4}); {5} }} made SEC(".maps");
"""


def refusal(source: str, pin_root: Path | str = "/sys/fs/bpf") -> OSError:
    """What loading it raises."""
    obj = BPFObject.open(build(HEADER + source), pin_root=pin_root)
    with pytest.raises(OSError, match=r"load |create ") as caught:
        obj.load()
    obj.close()
    return caught.value


@pytest.mark.parametrize(
    ("definition", "text"),
    [
        (("LPM_TRIE", 4, 8, 4, 0, ""), "a map of type lpm_trie needs the flag BPF_F_NO_PREALLOC"),
        (("LPM_TRIE", 4, 4, 4, 1, ""), "the key of a map of type lpm_trie is a __u32"),
        (("HASH", 0, 4, 4, 0, ""), "max_entries must be at least 1"),
        (("ARRAY", 4, 8, 4, 0, ""), "its keys are indices: key_size must be 4"),
        (("QUEUE", 4, 4, 4, 0, ""), "a map of type queue has no keys: leave key_size out"),
        (("HASH", 4, 4, 4, "1 << 10", ""), "its sizes or flags are not possible for a map of type hash"),
        (("LRU_HASH", 4, 4, 4, 1, ""), "its sizes or flags are not possible for a map of type lru_hash"),
    ],
)
def test_a_definition_that_is_not_possible_names_the_rule_that_it_breaks(
    definition: tuple[object, ...], text: str
) -> None:
    error = refusal(MAP.format(*definition) + PLAIN)
    assert str(error).startswith(f"[Errno {error.errno}] create map 'made' of BPF object object: ")
    assert text in str(error)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"type": "hash", "key_size": 0, "value_size": 4}, "key_size must be at least 1"),
        ({"type": "hash", "key_size": 4, "value_size": 0}, "value_size must be at least 1"),
        ({"type": "lpm_trie", "key_size": 8, "value_size": 4}, "needs the flag BPF_F_NO_PREALLOC"),
        ({"type": "ringbuf", "value_size": 8, "max_entries": 4096}, "a ring buffer has no keys and values"),
        ({"type": "stack", "key_size": 4, "value_size": 4}, "a map of type stack has no keys"),
        ({"type": "array_of_maps", "key_size": 4, "value_size": 8}, "its values are maps: value_size must be 4"),
    ],
)
def test_a_map_that_cannot_be_made_says_why(options: dict[str, object], text: str) -> None:
    with pytest.raises(OSError, match="create map 'one': Invalid argument") as caught:
        Map.create(**{"max_entries": 4, **options}, name="one")  # type: ignore[arg-type]
    assert text in str(caught.value)


def test_a_map_that_is_too_large_says_so() -> None:
    with pytest.raises(OSError, match="it is too large: take a smaller max_entries"):
        Map.create("array", key_size=4, value_size=1 << 30, max_entries=1 << 31, name="huge")


def test_each_way_not_to_be_pinned_by_name_has_its_own_text(
    bpffs: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pinned = "__uint(pinning, LIBBPF_PIN_BY_NAME);"
    plain_directory = tmp_path_factory.mktemp("plain")
    error = refusal(MAP.format("HASH", 4, 4, 4, 0, pinned) + PLAIN, plain_directory)
    assert f"pin map 'made' at {plain_directory}/made: " in str(error)
    assert "it is not on a BPF file system: mount -t bpf bpf /sys/fs/bpf" in str(error)
    with Map.create("hash", key_size=4, value_size=8, max_entries=4, name="made") as other:
        other.pin(bpffs / "made")
        error = refusal(MAP.format("HASH", 4, 4, 4, 0, pinned) + PLAIN, bpffs)
        assert f"pin map 'made' at {bpffs}/made: " in str(error)
        assert "another map is pinned there, its value_size is 8, not 4: remove it, or take another pin_root" in str(
            error
        )
        error = refusal(MAP.format("ARRAY", 4, 4, 4, 0, pinned) + PLAIN, bpffs)
        assert "another map is pinned there, its type is hash, not array" in str(error)
        with pytest.raises(OSError, match="it is not on a BPF file system: mount -t bpf bpf /sys/fs/bpf"):
            Map.open_pinned(plain_directory / "none")
        with pytest.raises(OSError, match="it is not on a BPF file system"):
            Map.create("hash", key_size=4, value_size=8, max_entries=4).pin(plain_directory / "none")
        with pytest.raises(OSError, match="a name on a BPF file system has no dots"):
            Map.create("hash", key_size=4, value_size=8, max_entries=4).pin(bpffs / "flows.v2")
        other.unpin()


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("void *data = (void *)(long)skb->data; return *(__u32 *)data;", "compare with data_end first"),
        ("__u32 key = 0; return *(__u32 *)bpf_map_lookup_elem(&made, &key);", "compare the pointer with NULL first"),
        ("bpf_ringbuf_reserve(&ring, 8, 0); return 0;", "submit, discard or release it"),
    ],
)
def test_the_verifiers_common_refusals_say_what_to_do(program: str, text: str) -> None:
    source = MAP.format("HASH", 4, 4, 4, 0, "")
    source += 'struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");\n'
    error = refusal(source + f'SEC("netkit/peer") int wrong(struct __sk_buff *skb) {{ {program} }}')
    assert isinstance(error, VerifierError)
    assert text in str(error)


def test_a_refusal_names_the_line_where_the_log_does() -> None:
    error = refusal('SEC("netkit/peer") int wrong(struct __sk_buff *skb)\n{\n\treturn *(__u32 *)(long)skb->data;\n}')
    assert isinstance(error, VerifierError)
    assert (error.line is None) == (" @ " not in error.log)
    assert error.line in (None, 6)


def test_names_that_the_kernel_does_not_take_are_named() -> None:
    error = refusal(MAP.format("HASH", 4, 4, 4, 0, "").replace("made", "zähler") + PLAIN)
    assert "create map 'zähler'" in str(error)
    assert "the kernel takes names of ASCII letters, digits, '_' and '.'" in str(error)
    error = refusal(PLAIN.replace("plain", "zähle"))
    assert "load program 'zähle'" in str(error)
    assert "the kernel takes names of ASCII letters, digits, '_' and '.'" in str(error)
    assert not isinstance(error, VerifierError)


def test_a_function_without_a_body_is_named() -> None:
    source = HEADER + 'int nowhere(int);\nSEC("netkit/peer") int calls(struct __sk_buff *skb) { return nowhere(1); }'
    with pytest.raises(
        OSError, match=r"open BPF object object: .*'nowhere' is used but not defined: define it"
    ) as caught:
        BPFObject.open(build(source))
    assert caught.value.errno == errno.ENOEXEC
    assert "-2" not in str(caught.value)


@pytest.mark.parametrize("declared", ["int bpf_nowhere(void)", "const int bpf_nowhere"])
def test_what_the_kernel_does_not_have_is_named_with_it(declared: str) -> None:
    call = "bpf_nowhere()" if "(" in declared else "bpf_nowhere"
    error = refusal(
        f'extern {declared} __ksym;\nSEC("netkit/peer") int asks(struct __sk_buff *skb) {{ return {call} != 0; }}'
    )
    assert error.errno == errno.EOPNOTSUPP
    assert f"Linux {platform.release()} has no 'bpf_nowhere': declare it __weak" in str(error)


def test_a_lack_of_descriptors_is_told_as_such_wherever_it_is_met() -> None:
    """Whatever is refused for it, at however many descriptors; and the process can load afterwards."""
    image = build(VERDICTS)

    def load_with_few() -> str:
        told = set()
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(map(int, os.listdir("/proc/self/fd")))
        while os.dup(0) < highest:  # no number below is free
            pass
        for spare in range(60):
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + spare, most))
            try:
                with BPFObject.open(image):
                    told.add("loaded")
            except OSError as error:
                told.add(errno.errorcode[error.errno or 0])
                if isinstance(error, VerifierError) or "ulimit -n" not in str(error):
                    told.add(repr(error))
        return " ".join(sorted(told))

    assert in_child(load_with_few) == "EMFILE loaded"
