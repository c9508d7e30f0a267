"""Faults of one rank among several are named on each engine; the chain without them passes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from chain import Chain, failing
from corpus import TALLY
from engines import curriculum, run
from in_engines import FAULTS, EngineFault

pytestmark = pytest.mark.full
Trained = Callable[[str], Path]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A folder with two stages of 5 and 8 steps on an engine, trained once."""
    folders: dict[str, Path] = {}

    def train(engine: str) -> Path:
        if engine not in folders:
            if engine.startswith("zero"):
                pytest.importorskip("deepspeed")
            folder = tmp_path_factory.mktemp(engine)
            stages = [{"name": "one", "steps": 5}, {"name": "two", "steps": 8}]
            run(folder, curriculum(folder, engine, "tiny", stages=stages))
            folders[engine] = folder
        return folders[engine]

    return train


@pytest.mark.parametrize("engine", dict.fromkeys(fault.engine for fault in FAULTS))
def test_the_healthy_chain_passes(trained: Trained, engine: str) -> None:
    with TALLY.twin(f"a finished chain on {engine}"):
        assert failing(trained(engine)) == {"one": set(), "two": set()}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_it_is_named(trained: Trained, tmp_path: Path, fault: EngineFault) -> None:
    shutil.copytree(trained(fault.engine), tmp_path / "copy", copy_function=shutil.copyfile)
    with TALLY.planting(fault):
        fault.plant(Chain(tmp_path / "copy"))
        assert failing(tmp_path / "copy") == {"one": set(), "two": set(fault.named)}
