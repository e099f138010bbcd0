# SPDX-License-Identifier: MIT
"""All that tells of an event's fields tells the same: src/events/fields.hpp is the one list of them."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
from pathlib import Path

import numpy
import pyarrow
import pytest

import netkit_bpf
from event_records import batch, event, events
from netkit_bpf import EventBatch, PacketEvent, Protocol, TCPFlags, _core

TABLE = _core.event_fields()
OF_EVENT = [name for name, in_event, *_ in TABLE if in_event]
OF_ARRAY = [name for name, _, in_array, *_ in TABLE if in_array]
OF_ARROW = [name for name, _, _, in_arrow, _ in TABLE if in_arrow]


def stub_properties() -> list[str]:
    stub = ast.parse((Path(netkit_bpf.__file__).parent / "_core.pyi").read_text())
    (described,) = (each for each in stub.body if isinstance(each, ast.ClassDef) and each.name == "PacketEvent")
    functions = [each for each in described.body if isinstance(each, ast.FunctionDef)]
    return [each.name for each in functions if [ast.unparse(name) for name in each.decorator_list] == ["property"]]


def test_an_event_has_the_fields_of_the_table_in_its_order() -> None:
    assert list(PacketEvent.__match_args__) == OF_EVENT
    assert list(event().asdict()) == OF_EVENT
    assert list(json.loads(event().to_json())) == OF_EVENT
    assert stub_properties() == OF_EVENT
    assert [name for name, member in vars(PacketEvent).items() if inspect.isgetsetdescriptor(member)] == OF_EVENT


def test_the_tables_have_the_fields_of_the_table_in_its_order() -> None:
    assert list(numpy.asarray(batch([])).dtype.names or ()) == OF_ARRAY
    assert pyarrow.schema(batch([])).names == OF_ARROW


def test_every_field_says_what_it_is() -> None:
    for name, in_event, *_, doc in TABLE:
        assert doc.endswith("."), name
        if in_event:
            assert inspect.getdoc(getattr(PacketEvent, name)) == doc


def test_columns_lie_side_by_side_in_a_row() -> None:
    dtype = numpy.asarray(batch([])).dtype
    assert dtype.fields is not None
    places = sorted((offset, offset + kind.itemsize) for kind, offset, *_ in dtype.fields.values())
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(places))
    assert places[-1][1] <= dtype.itemsize == _core.RECORD_SIZE == _core.EVENT_SIZE + 8


def test_the_flags_say_which_fields_apply() -> None:
    made = events()
    for each, said in zip(made, numpy.asarray(batch(made)), strict=True):
        for name, flag in EventBatch.FLAGS.items():
            attribute = "fragment" if name.startswith("fragment") else name
            if name != "flow_label":
                assert bool(said["flags"] & flag) == (getattr(each, attribute) is not None), name
    always = {name for name in OF_ARRAY if name not in EventBatch.FLAGS}
    assert always == {"timestamp_ns", "pair_name", "side", "length", "gso_segs", "ethertype", "flags"}


@pytest.mark.parametrize("bits", range(256))
def test_tcp_flags_print_as_names_and_are_an_integer(bits: int) -> None:
    flags = event(tcp_flags=bits).tcp_flags
    assert flags is not None
    assert flags == bits
    assert hash(flags) == hash(bits)
    assert flags + 1 == bits + 1
    assert isinstance(flags, TCPFlags)
    names = [flag.name for flag in TCPFlags if bits & flag]
    assert str(flags) == f"{flags}" == ("|".join(map(str, names)) or "0")
    assert f"{flags:#04x}" == f"{bits:#04x}"
    assert json.dumps(flags) == str(bits)
    assert repr(flags) == f"<TCPFlags {flags}: {bits}>"


def test_the_names_of_tcp_flags_go_from_the_lowest_bit_up() -> None:
    assert str(event(tcp_flags=0xFF).tcp_flags) == "FIN|SYN|RST|PSH|ACK|URG|ECE|CWR"
    flags = event(tcp_flags=0x12).tcp_flags
    assert flags is not None
    assert TCPFlags.SYN in flags
    assert TCPFlags.FIN not in flags
    assert str(flags & ~TCPFlags.ACK) == "SYN"


@pytest.mark.parametrize("number", range(256))
def test_a_protocol_prints_as_its_name_and_is_an_integer(number: int) -> None:
    for protocol in (event(protocol=number).protocol, event(next_header=number).next_header):
        assert protocol is not None
        assert protocol == number
        assert hash(protocol) == hash(number)
        assert protocol + 1 == number + 1
        assert json.dumps(protocol) == f"{protocol:d}" == str(number)
        if number in set(Protocol):
            assert isinstance(protocol, Protocol)
            assert str(protocol) == f"{protocol}" == protocol.name
        else:
            assert type(protocol) is int


def test_names_stay_numbers_in_json() -> None:
    said = json.loads(event(tcp_flags=0x12).to_json())
    assert (said["tcp_flags"], said["protocol"], said["next_header"]) == (0x12, 6, 6)
    assert json.dumps(event().asdict(), default=str) == event().to_json()


def test_events_are_matched_by_names_and_by_numbers() -> None:
    match event(tcp_flags=0x12):
        case PacketEvent(protocol=Protocol.UDP):
            pytest.fail("not UDP")
        case PacketEvent(protocol=Protocol.TCP, tcp_flags=0x12):
            pass
        case _:
            pytest.fail("no match")
