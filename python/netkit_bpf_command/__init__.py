# SPDX-License-Identifier: MIT
"""Where the script netkit-bpf begins: a package of its own, so that Ctrl-C is heeded while netkit_bpf is imported."""

from __future__ import annotations

import os
import signal
import sys


def main() -> int:
    """Import the command and run it. Ctrl-C before that ends the process at once, with status 130 and no traceback."""
    heeds = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a shell's job in the background does not
    if heeds:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    try:
        from netkit_bpf.command import main as run
    except ImportError as error:
        return _fail(str(error))
    if heeds:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run()


def _fail(message: str) -> int:
    """Say why there is no command, as the command says of an error."""
    if "--json" in sys.argv:
        import json

        print(json.dumps({"type": "error", "message": message, "status": 1}))
    print(f"netkit-bpf: {message}", file=sys.stderr)
    return 1
