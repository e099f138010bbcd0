"""An IPython shell in this process, that keeps no history, and so neither thread nor file."""

from __future__ import annotations

import functools
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

from elsewhere import need

need("ipython")
from IPython.core.interactiveshell import InteractiveShell  # noqa: E402
from traitlets.config import Config  # noqa: E402


class Shell:
    """What a notebook's kernel does with cells."""

    def __init__(self) -> None:
        config = Config()
        config.HistoryManager.enabled = False
        config.HistoryManager.hist_file = ":memory:"
        config.InteractiveShell.colors = "nocolor"
        self.shell = InteractiveShell(config=config)
        self.shell.run_line_magic("load_ext", "netkit_bpf")

    @property
    def names(self) -> dict[str, Any]:
        """The cells' variables."""
        found: dict[str, Any] = self.shell.user_ns
        return found

    def run(self, cell: str) -> str:
        """Run a cell and return what it shows, errors included."""
        shown = io.StringIO()
        with redirect_stdout(shown), redirect_stderr(shown):
            self.shell.run_cell(cell)
        for name in ("last_exc", "last_value", "last_traceback"):  # whose frames hold what the cell had
            vars(sys).pop(name, None)
        return shown.getvalue()


_shell = functools.cache(Shell)  # one a process: IPython takes many at a time badly


@contextmanager
def ipython_shell() -> Iterator[Shell]:
    """The shell, without the variables of earlier tests."""
    made = _shell()
    made.shell.reset(new_session=False)
    yield made
    made.shell.reset(new_session=False)
