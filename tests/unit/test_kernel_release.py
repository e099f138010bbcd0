"""Releases as kernels have them: Debian's, Ubuntu's, Fedora's, candidates, and those that people build."""

from __future__ import annotations

import platform

import pytest

from netkit_bpf.internal.kernel_release import is_at_least, numbers, running


@pytest.mark.parametrize(
    ("release", "found"),
    [
        ("6.12.4", (6, 12, 4)),
        ("6.12", (6, 12, 0)),
        ("7.1+deb14-amd64", (7, 1, 0)),
        ("7.2+", (7, 2, 0)),
        ("7.0-rc3", (7, 0, 0)),
        ("6.12.107+deb13-cloud-amd64", (6, 12, 107)),
        ("6.8.0-41-generic", (6, 8, 0)),
        ("6.11.0_custom", (6, 11, 0)),
        ("5.15.167.4-microsoft-standard-WSL2", (5, 15, 167)),
        ("6.7.", (6, 7, 0)),
        ("7", None),
        ("custom-7.2", None),
        ("", None),
        ("٦.١٢", None),  # digits, and of no kernel
    ],
)
def test_the_numbers_are_found_whatever_stands_behind_them(release: str, found: tuple[int, int, int] | None) -> None:
    assert numbers(release) == found


def test_numbers_are_compared_as_numbers() -> None:
    assert is_at_least("6.7", "6.10.2")
    assert is_at_least("6.12.4", "6.12.4-rt")
    assert not is_at_least("6.12.4", "6.12.3")
    assert not is_at_least("6.14", "custom")
    assert is_at_least("3.0", running())


def test_the_running_kernel_says_it_itself() -> None:
    assert running() == platform.release()
