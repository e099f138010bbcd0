# SPDX-License-Identifier: MIT
"""When an iteration over a stream ends by itself."""

from __future__ import annotations

from typing import NamedTuple

from netkit_bpf.internal.arguments import expect_in, expect_timeout

_COUNTS = range(1, 1 << 62)


class Limits(NamedTuple):
    """Each is None for never.

    Attributes:
        timeout: after so many seconds without a record.
        duration: after so many seconds in all, whatever still comes.
        number: after so many records.
    """

    timeout: float | None
    duration: float | None
    number: int | None

    @classmethod
    def of(cls, timeout: float | None, duration: float | None, count: int | None) -> Limits:
        """Refuse what is no number of seconds, or of records: 1 or more."""
        return cls(
            expect_timeout(timeout),
            expect_timeout(duration, "duration"),
            None if count is None else expect_in(count, _COUNTS, "count"),
        )
