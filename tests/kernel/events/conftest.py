"""The ways in which a stream is read."""

from __future__ import annotations

import pytest

from streams import MODES, Options


@pytest.fixture(params=list(MODES.values()), ids=list(MODES))
def options(request: pytest.FixtureRequest) -> Options:
    made: Options = request.param
    return made
