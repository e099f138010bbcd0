# SPDX-License-Identifier: MIT
"""The names of the pairs of a reader by number, as its batches refer to them."""

from __future__ import annotations

from collections.abc import Sequence

Origin = tuple[str, "int | None"]  # the name of a pair's primary, and `NetNS.cookie` of the namespace that it was in
AnyOrigin = tuple["str | None", "int | None"]  # neither is known of several pairs together


class PairNames(tuple[str, ...]):
    """Names that know where the pairs are: a number gets another pair once its pair is gone, but never in a batch."""

    cookies: tuple[int | None, ...]
    reader: object  # stands for the reader, and does not keep it

    @classmethod
    def of(cls, origins: Sequence[Origin], reader: object) -> PairNames:
        """Make them."""
        self = cls(name for name, _ in origins)
        self.cookies = tuple(cookie for _, cookie in origins)
        self.reader = reader
        return self
