"""Chains that several tests look at are trained once; engines that a test left are ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import support
from support import stepladder, tiny_curriculum


@pytest.fixture(autouse=True)
def _no_engine_outlives_its_test() -> Iterator[None]:
    yield
    while support.STARTED:
        engine = support.STARTED.pop()
        engine.kill()
        engine.wait(30)
        if engine.stderr is not None:
            engine.stderr.close()


@pytest.fixture(scope="session")
def healthy_chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `tiny.yaml` run to its end: three stages over the same data, `data: continue`."""
    folder = tmp_path_factory.mktemp("healthy")
    curriculum = tiny_curriculum(folder, handover={"data": "continue"})
    done = stepladder("run", curriculum, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder
