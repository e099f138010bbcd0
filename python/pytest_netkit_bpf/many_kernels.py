# SPDX-License-Identifier: MIT
"""Tests that run on each of several kernels: pytest's own parametrization, so each result has its kernel's name.

A plugin that is registered where several kernels are asked for.
"""

from __future__ import annotations

import pytest

from pytest_netkit_bpf import place


@pytest.fixture(scope="session")
def netkit_kernel(request: pytest.FixtureRequest) -> str:
    """The kernel of the test, as --netkit-kernel names it. Its scope is the session: pytest sorts the tests by it."""
    return str(request.param)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat a test on each kernel."""
    marked = metafunc.definition.get_closest_marker("netkit") is not None
    if not marked and place.FIXTURES.isdisjoint(metafunc.fixturenames):
        return
    if "netkit_kernel" not in metafunc.fixturenames:
        metafunc.fixturenames.append("netkit_kernel")
    metafunc.parametrize("netkit_kernel", place.kernels(metafunc.config), indirect=True, scope="session")
