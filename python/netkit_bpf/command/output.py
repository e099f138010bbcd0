# SPDX-License-Identifier: MIT
"""What the command writes: results to standard output, all else to standard error.

Names of devices and namespaces, and aliases, were chosen by others, perhaps in a container: what could steer a terminal
or look like another line is written as Python writes it in a string ("\\x1b").
"""

from __future__ import annotations

import contextlib
import os
import sys

from netkit_bpf.internal.writing import write_all


def printable(text: str) -> str:
    """The text as one line, with everything escaped that a terminal would obey or not show."""
    return text if text.isprintable() else "".join(each if each.isprintable() else _escape(each) for each in text)


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that is no UTF-8, as os.fsdecode() has it
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def note(text: str) -> None:
    """Write a diagnostic; to nowhere if there is no standard error, and never among the results."""
    first, *more = map(printable, text.split("\n"))
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(f"netkit-bpf: {first}", *(f"  {line}" for line in more), sep="\n", file=sys.stderr)


def say(*lines: str) -> None:
    """Write lines to standard output now, for whoever reads along, and wait where that is slow.

    What the output's encoding lacks is escaped. There may be no standard output.
    """
    _write("\n".join(map(printable, lines)))


def say_json(*lines: str) -> None:
    """The same of JSON, which must stay as it is and escapes control characters itself."""
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
        else:  # a StringIO in its place
            out.write(f"{text}\n")
    except OSError as error:
        # What is still buffered must not fail once more when the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise OSError(error.errno, f"write to standard output: {error.strerror}") from None
