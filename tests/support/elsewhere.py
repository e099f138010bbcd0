"""Tests that are about some kernels and not about others: the only skips that --netkit=require lets pass."""

from __future__ import annotations

import pytest

Skipped: type[BaseException] = pytest.skip.Exception


class OnOtherKernels(Skipped):  # type: ignore[misc, valid-type]
    """This test is not about the kernel that runs; another one of the matrix has it."""


def only_where(applies: bool, what: str) -> None:
    """Skip the test unless it `applies` here; `what` names the kernels that it is about: "Linux 7.1 or later"."""
    if not applies:
        raise OnOtherKernels(f"only on {what}")
