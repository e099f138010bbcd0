# SPDX-License-Identifier: MIT
"""What the command writes: results to standard output, all else to standard error."""

from __future__ import annotations

import contextlib
import os
import sys

from netkit_bpf.internal.writing import write_all


def printable(text: str) -> str:
    """The text with everything escaped that a terminal would obey or not show: names of devices can be any bytes."""
    return text if text.isprintable() else "".join(each if each.isprintable() else _escape(each) for each in text)


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that is no UTF-8, as os.fsdecode() has it
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def note(text: str) -> None:
    """Write a diagnostic; to nowhere if there is no standard error, and never among the results."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            lines = (printable(line) for line in text.split("\n"))
            print("netkit-bpf: " + "\n".join(lines), file=sys.stderr)


def say(line: str) -> None:
    """Write a line to standard output now, for whoever reads along, and wait where that is slow.

    What the output's encoding lacks is escaped. There may be no standard output.
    """
    out = sys.stdout
    if out is None:
        return
    data = f"{line}\n".encode(out.encoding or "utf-8", "backslashreplace")
    try:
        if hasattr(out, "buffer"):
            out.flush()
            write_all(out.buffer, data)
        else:  # a StringIO in its place
            out.write(f"{line}\n")
    except OSError as error:
        # What is still buffered must not fail once more when the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise OSError(error.errno, f"write to standard output: {error.strerror}") from None
