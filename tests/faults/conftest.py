"""Every test of the corpus hands its part of the tally to the end of the tests, from whichever process it runs in."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chain import Chain
from corpus import TALLY


@pytest.fixture
def chain(healthy_chain: Path, tmp_path: Path) -> Chain:
    """A copy of the healthy chain, to plant in."""
    shutil.copytree(healthy_chain, tmp_path / "copy", copy_function=shutil.copyfile)
    return Chain(tmp_path / "copy")


@pytest.fixture(autouse=True)
def _tallied(record_property: Callable[[str, object], None]) -> Iterator[None]:
    yield
    record_property("tally", TALLY.taken())
