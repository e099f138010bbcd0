"""First on Python's path: lets the instrumented extension beside it be imported, not the one that is installed."""

from __future__ import annotations

import sys
import threading

sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in type(finder).__module__]

# ThreadSanitizer starts a thread of its own with the first of the program: before a test counts them.
_thread = threading.Thread(target=int)
_thread.start()
_thread.join()
