# SPDX-License-Identifier: MIT
"""Output of the command: results go to standard output, everything else to standard error.

Others chose the names and aliases of devices and namespaces, perhaps in a container: characters that could control a
terminal or look like another line are escaped as in a Python string ("\\x1b").
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings

from netkit_bpf.internal.writing import write_all


class OutputError(OSError):
    """Standard output takes no more: what is still to be said, also as JSON, goes to standard error."""


def printable(text: str) -> str:
    """The text as one line, with control and invisible characters escaped."""
    return text if text.isprintable() else "".join(each if each.isprintable() else _escape(each) for each in text)


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that is not UTF-8, as os.fsdecode() gives it
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def note(text: str) -> None:
    """Write a diagnostic to standard error; drop it if there is none."""
    first, *more = map(printable, text.split("\n"))
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(f"netkit-bpf: {first}", *(f"  {line}" for line in more), sep="\n", file=sys.stderr)


def show_warnings() -> None:
    """Print warnings like other diagnostics, without the place in Python that raised them."""
    warnings.showwarning = lambda message, *_, **__: note(str(message))


def say(*lines: str) -> None:
    """Write lines to standard output and flush; wait if the reader is slow.

    Characters that the encoding lacks are escaped. There may be no standard output.
    """
    _write("\n".join(map(printable, lines)))


def say_json(*lines: str) -> None:
    """The same for JSON, which escapes control characters itself and must not be changed."""
    _write("\n".join(lines))


def _write(text: str) -> None:
    out = sys.stdout
    if out is None:
        return
    data = f"{text}\n".encode(out.encoding or "utf-8", "backslashreplace")
    try:
        if hasattr(out, "buffer"):
            out.flush()
            write_all(out.buffer, data)
        else:  # replaced by a StringIO
            out.write(f"{text}\n")
    except OSError as error:
        # What is still buffered must not fail again when the interpreter exits.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, out.fileno())
        os.close(nowhere)
        if isinstance(error, BrokenPipeError):
            raise
        raise OutputError(error.errno, f"write to standard output: {error.strerror}") from None
