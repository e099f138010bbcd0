"""The examples, as modules."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

_DIRECTORY = Path(__file__).parents[2] / "examples"


def example(name: str) -> ModuleType:
    """The module of this file of examples/; its main code does not run."""
    spec = importlib.util.spec_from_file_location(name, _DIRECTORY / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
