"""Every test here runs under each of the older versions."""

from __future__ import annotations

import pytest

from old_interpreters import VERSIONS, interpreter


@pytest.fixture(params=VERSIONS)
def old_python(request: pytest.FixtureRequest) -> str:
    """The interpreter of each version in turn."""
    return interpreter(request.param)
