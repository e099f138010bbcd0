# SPDX-License-Identifier: MIT
"""The errors that carry more than an errno.

Any other refusal by the kernel is the built-in subclass of OSError that fits the errno.
"""

from __future__ import annotations

import re
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
    """The C compiler refused the source of a BPF program; the text is what the compiler says.

    Attributes:
        line: the line of the first error in the source, from 1; for an error in a header, the line that includes it.
            None if the compiler names no line.
        column: the column there, from 1; None for an error in a header.
    """

    def __init__(self, text: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(text)
        self.line = line
        self.column = column

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.line, self.column)


class VerifierError(OSError):
    """The kernel's verifier refused a program; the text ends with the lines of its log that matter.

    Attributes:
        log: the whole log, with the messages of libbpf around it.
        line: the line of the source that the verifier stopped at, from 1; None if the log does not number the lines, as
            before Linux 6.9.
        column: None, as `CompileError` has one: the log names none.
    """

    column: int | None = None

    def __init__(self, errno: int, text: str, log: str) -> None:
        super().__init__(errno, text)
        self.log = log
        numbers = re.findall(r"^; .* @ \S+:(\d+)$", log, re.MULTILINE)
        self.line = int(numbers[-1]) if numbers else None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.errno, self.strerror, self.log)
