# SPDX-License-Identifier: MIT
"""When an iteration over a stream ends by itself."""

from __future__ import annotations

from typing import NamedTuple

from netkit_bpf.internal.arguments import expect_in, expect_timeout

_COUNTS = range(1, 1 << 62)


class Limits(NamedTuple):
    """Limits of an iteration; None is no limit.

    Attributes:
        timeout: seconds without a record.
        duration: seconds in all, even if records keep coming.
        number: number of records.
    """

    timeout: float | None
    duration: float | None
    number: int | None

    @classmethod
    def of(cls, timeout: float | None, duration: float | None, count: int | None) -> Limits:
        """Check the limits: numbers of seconds, and at least 1 record."""
        return cls(
            expect_timeout(timeout),
            expect_timeout(duration, "duration"),
            None if count is None else expect_in(count, _COUNTS, "count"),
        )
