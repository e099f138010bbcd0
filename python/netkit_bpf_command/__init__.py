# SPDX-License-Identifier: MIT
"""Where the script netkit-bpf begins: a package of its own, so that Ctrl-C is heeded while netkit_bpf is imported."""

from __future__ import annotations

import os
import signal


def main() -> int:
    """Import the command and run it. Ctrl-C before that ends the process at once, with status 130 and no traceback."""
    heeds = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a shell's job in the background does not
    if heeds:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from netkit_bpf.command import main as run

    if heeds:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run()
