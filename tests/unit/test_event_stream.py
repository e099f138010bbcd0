"""Who releases the source of a stream: the last of its readers and closers."""

from __future__ import annotations

from netkit_bpf.internal.event_stream import EventStream


class Stream(EventStream[int]):
    """A stream whose reader leaves just as it is woken."""

    _called = "the stream"

    def __init__(self) -> None:
        super().__init__()
        self.reader = object()
        self.released = False
        self.woken = 0

    def _take(self, end: float) -> int | None:
        return None

    def _descriptor(self) -> int:
        return -1

    def _wake(self) -> None:
        self._leave(self.reader)
        assert not self.released, "another descriptor may have that number by now"
        self.woken += 1

    def _let_go(self) -> None:
        self.released = True


def test_a_reader_that_leaves_as_it_is_closed_does_not_release_what_is_being_woken() -> None:
    stream = Stream()
    stream._users.add(stream.reader)
    stream.close()
    assert stream.released
    assert stream.woken == 1
    stream.close()
    assert stream.woken == 1


def test_nobody_is_woken_where_nobody_reads() -> None:
    stream = Stream()
    stream.close()
    assert stream.released
    assert stream.woken == 0


def test_a_reader_that_stays_releases_it_as_it_leaves() -> None:
    stream = Stream()
    stays = object()
    stream._users |= {stays, stream.reader}
    stream.close()
    assert not stream.released
    stream._leave(stays)
    assert stream.released
