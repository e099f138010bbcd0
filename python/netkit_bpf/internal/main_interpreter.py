# SPDX-License-Identifier: MIT
"""Imported before the extension module: raises ImportError in a sub-interpreter.

pybind11 takes the GIL of the main interpreter to set itself up (PyGILState_Ensure()). Before Python 3.12, which refuses
the import itself, importing it in a sub-interpreter waits for ever.
"""

from __future__ import annotations

import sys
from typing import Any

_interpreters: Any
try:
    _interpreters = __import__("_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters")
except ImportError:  # this Python was built without them
    _interpreters = None

if _interpreters is not None and _interpreters.get_current() != _interpreters.get_main():
    raise ImportError("this is a sub-interpreter, and the module works only in the main interpreter")
