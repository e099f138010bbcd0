"""Records of any length, sources and decoders: what a stream makes of what is in the ring."""

from __future__ import annotations

import os
import time
from collections import Counter
from random import Random
from typing import Any

import pytest

from native import QUEUE
from netkit_bpf import _core
from netkit_bpf._core import EventBatch as CoreEventBatch
from netkit_bpf.events.event import PacketEvent
from packets import ipv6, tcp
from records import LONGEST, SOURCE_OFFSET, SOURCES, Emitter
from streams import Options

FRAME = ipv6(6, tcp())
SEED = int(os.environ.get("NETKIT_BPF_SEED", "0")) or time.time_ns() % 1_000_000


def open_emitter(**options: Any) -> Emitter[bytes]:
    return Emitter(
        lambda program, rings, counts: _core.Stream(
            program,
            rings,
            bytes,
            queue_size=QUEUE,
            counts=counts,
            sources=SOURCES,
            source_offset=SOURCE_OFFSET,
            **options,
        )
    )


def test_records_of_every_length_come_as_they_were_written(options: Options) -> None:
    random = Random(SEED)
    with open_emitter(**options) as emitter:
        for _ in range(60):
            expected, kept = [], Counter[int]()
            wanted = random.randrange(1, 60_000)
            length, discard, source = random.randrange(LONGEST + 1), False, 0
            while wanted > 0:
                if random.random() < 0.3:  # runs of records that are alike, of all lengths
                    length = random.choice([0, 1, 7, 8, 9, 72, random.randrange(LONGEST + 1)])
                    discard, source = random.random() < 0.2, random.randrange(SOURCES)
                record = emitter.emit(length, random.randbytes(8), discard=discard, source=source)
                if not discard:
                    expected.append(record)
                    kept[source if length > SOURCE_OFFSET else 0] += 1
                wanted -= length + 16
            stats = emitter.stream.stats()
            assert {i: each[3] for i, each in enumerate(stats) if each[3]} == kept, SEED
            assert [emitter.stream.read(10.0) for _ in expected] == expected, SEED
            assert emitter.stream.read(0) is None
            assert [each[2:] for each in emitter.stream.stats()] == [(0, 0)] * SOURCES


def test_what_the_decoder_raises_comes_out_and_the_next_record_after_it() -> None:
    def decode(record: bytes) -> int:
        if len(record) == 13:
            raise LookupError("thirteen")
        return len(record)

    with Emitter(lambda program, rings, _: _core.Stream(program, rings, decode, queue_size=QUEUE)) as emitter:
        for length in (12, 13, 14):
            emitter.emit(length, b"")
        events = emitter.stream.events(0.2)
        assert next(events) == 12
        with pytest.raises(LookupError, match="thirteen"):
            next(events)
        assert list(events) == [14]


def test_a_record_of_an_unknown_kind_is_refused_by_name() -> None:
    with Emitter(lambda program, rings, _: _core.Stream(program, rings, ("nk0",), queue_size=QUEUE)) as emitter:
        emitter.emit(87, b"")
        with pytest.raises(ValueError, match="a record has 88 bytes, not 87: it is not a packet event"):
            emitter.stream.read(10.0)
        emitter.emit(88, bytes(74) + b"\x09\x00")
        with pytest.raises(ValueError, match="names pair 9 of 1"):
            emitter.stream.read(10.0)
        emitter.emit(88, b"")
        event = emitter.stream.read(10.0)
        assert isinstance(event, PacketEvent)


@pytest.mark.parametrize(
    ("length", "filler", "message"),
    [
        (87, b"", "a record has 87 bytes: it is not a packet event"),
        (88, bytes(74) + b"\x09\x00", "a record is of pair 9 of 1 and side 0"),
        (89, b"", "a record has 89 bytes, not 88"),
    ],
)
def test_a_batch_with_a_record_of_an_unknown_kind_is_refused(length: int, filler: bytes, message: str) -> None:
    """And the next one comes."""
    with Emitter(lambda program, rings, _: _core.Stream(program, rings, ("nk0",), queue_size=QUEUE)) as emitter:
        emitter.emit(length, filler)
        with pytest.raises(ValueError, match=message):
            CoreEventBatch.read(emitter.stream, 10, 10.0, merge=True, with_data=False)
        emitter.emit(88, b"")
        assert len(CoreEventBatch.read(emitter.stream, 10, 10.0, merge=True, with_data=False)) == 1


def test_the_decoder_may_close_the_stream() -> None:
    def decode(record: bytes) -> int:
        emitter.stream.close()
        return len(record)

    with Emitter(lambda program, rings, _: _core.Stream(program, rings, decode, queue_size=QUEUE)) as emitter:
        emitter.emit(8, b"")
        emitter.emit(9, b"")
        assert list(emitter.stream.events(10.0)) == [8]
