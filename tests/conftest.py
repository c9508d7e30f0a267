"""Chains that several tests look at are trained once."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import stepladder, tiny_curriculum


@pytest.fixture(scope="session")
def healthy_chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `tiny.yaml` run to its end: three stages over the same data, `data: continue`."""
    folder = tmp_path_factory.mktemp("healthy")
    curriculum = tiny_curriculum(folder, handover={"data": "continue"})
    done = stepladder("run", curriculum, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder
