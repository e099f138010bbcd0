# SPDX-License-Identifier: MIT
"""The errors that have more to say than an errno.

Everything else that the kernel refuses is the built-in subclass of OSError that fits the errno.
"""

from __future__ import annotations

from typing import Any


class NotSupportedError(OSError):
    """This kernel lacks a feature.

    Attributes:
        feature: what is missing.
        needs: the first Linux release that has it, for example "6.7".
        running: the release of the kernel that runs.
    """

    def __init__(self, errno: int, text: str, feature: str, needs: str, running: str) -> None:
        super().__init__(errno, text)
        self.feature = feature
        self.needs = needs
        self.running = running

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.errno, self.strerror, self.feature, self.needs, self.running)


class NotAPairError(LookupError):
    """The device is not an end of a netkit pair that can be opened.

    It is of another kind, or a single netkit device, or the peer of a primary whose namespace cannot be found.
    """


class CompileError(ValueError):
    """The C compiler refused the source of a BPF program; the text is what the compiler says."""


class VerifierError(OSError):
    """The kernel's verifier refused a program; the text ends with the lines of its log that matter.

    Attributes:
        log: the whole log, with what libbpf says around it.
    """

    def __init__(self, errno: int, text: str, log: str) -> None:
        super().__init__(errno, text)
        self.log = log

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.errno, self.strerror, self.log)
