"""Programs and maps of an object that are loaded and made on request."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from netkit_bpf import BPFObject, Map, Program, RingBuffer, VerifierError
from programs import HEADER, build

SOURCE = (
    HEADER
    + """
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, __u32); __type(value, __u32); }
	seen SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __type(value, __u64); } ring SEC(".maps");
SEC("netkit/peer") int plain(struct __sk_buff *skb) { return 1; }
SEC("?netkit/peer") int optional(struct __sk_buff *skb)
{
	__u32 key = skb->len;

	return bpf_map_update_elem(&seen, &key, &key, BPF_ANY);
}
SEC("?netkit/primary") int refused(struct __sk_buff *skb) { return *(volatile int *)(long)skb->data_end; }
SEC("netkit/nowhere") int lost(struct __sk_buff *skb) { return 3; }
"""
)
PACKET = bytes(60)


def test_an_optional_program_is_not_loaded_unless_it_is_switched_on() -> None:
    obj = BPFObject.open(build(SOURCE))
    autoload = {name: program.autoload for name, program in obj.programs.items()}
    assert autoload == {"plain": True, "optional": False, "refused": False, "lost": True}
    assert obj.programs["optional"].section == "netkit/peer"
    obj.programs["lost"].autoload = False
    with obj:
        assert obj.programs["plain"].test_run(PACKET).retval == 1
        assert repr(obj.programs["optional"]) == "<Program optional (netkit/peer) not loaded>"
        uses: list[Callable[[Program], object]] = [
            *(lambda it: it.id, lambda it: it.tag, lambda it: it.test_run(PACKET), lambda it: it._fileno())
        ]
        for name in ("optional", "refused", "lost"):
            for use in uses:
                with pytest.raises(ValueError, match=f"program '{name}' was not loaded: set its autoload before load"):
                    use(obj.programs[name])
        with pytest.raises(ValueError, match="program 'optional' is loaded: set autoload before load"):
            obj.programs["optional"].autoload = True
    with pytest.raises(ValueError, match="program 'optional' is closed: set autoload before load"):
        obj.programs["optional"].autoload = True


def test_a_program_is_switched_on_and_off() -> None:
    obj = BPFObject.open(build(SOURCE))
    obj.programs["optional"].autoload = True
    obj.programs["plain"].autoload = obj.programs["lost"].autoload = False
    with pytest.raises(TypeError, match="autoload must be a bool, not int"):
        obj.programs["plain"].autoload = 1  # type: ignore[assignment]
    with obj:
        assert obj.programs["optional"].test_run(PACKET).retval == 0
        assert obj.maps["seen"].copy() == {60: 60}


def test_a_section_without_a_type_can_be_left_out_after_a_refusal() -> None:
    obj = BPFObject.open(build(SOURCE))
    with pytest.raises(OSError, match="does not name a program type"):
        obj.load()
    obj.programs["lost"].autoload = False
    with obj:
        assert obj.programs["plain"].test_run(PACKET).retval == 1


def test_a_map_is_not_made_unless_it_is_wanted() -> None:
    obj = BPFObject.open(build(SOURCE))
    obj.programs["lost"].autoload = False
    for name in ("seen", "ring"):
        assert obj.maps[name].autocreate
        obj.maps[name].autocreate = False
    with obj:
        assert repr(obj.maps["seen"]) == "<Map seen (hash) not made>"
        uses: list[Callable[[Map], object]] = [lambda it: it.id, lambda it: it[1], lambda it: it.lookup_batch()]
        for use in uses:
            with pytest.raises(ValueError, match="map 'seen' was not made: set its autocreate before load"):
                use(obj.maps["seen"])
        with pytest.raises(ValueError, match="map 'ring' was not made"):
            RingBuffer(obj.maps["ring"])
        with pytest.raises(ValueError, match="map 'seen' is loaded: set autocreate before load"):
            obj.maps["seen"].autocreate = True


def test_a_program_that_uses_a_map_which_is_not_made_is_refused_by_its_name() -> None:
    obj = BPFObject.open(build(SOURCE))
    obj.programs["lost"].autoload = False
    obj.programs["optional"].autoload = True
    obj.maps["seen"].autocreate = False
    with pytest.raises(
        VerifierError, match=r"(?s)load program 'optional'.*BPF map 'seen' is referenced but wasn't created"
    ):
        obj.load()
