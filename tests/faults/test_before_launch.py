"""Faults in curricula and in what a stage would start from are refused before any process is started."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from chain import Chain
from corpus import TALLY
from in_curricula import CURRICULA, FILES, MODEL, STARTS, ZERO, CurriculumFault, StartFault
from support import in_process, stepladder, tiny_curriculum

CONTINUED = {"handover": {"data": "continue"}}


@pytest.fixture
def two_stages(chain: Chain) -> Chain:
    """A copy of the healthy chain whose third stage has not been run."""
    shutil.rmtree(chain.stage_dir("three"))
    shutil.rmtree(chain.attempt("three").parent)
    chain.rewrite_journal(lambda event: None if event.get("stage") == "three" else event)
    return chain


def plan(folder: Path, changes: Mapping[str, Any]) -> tuple[int, str]:
    done = in_process("plan", tiny_curriculum(folder, **{**CONTINUED, **changes}), cwd=folder)
    return done.returncode, done.stderr


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file of a run but the lock and what `run` writes down of the plan."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    own = ("lock", "plan.json", "curriculum.yaml", "worker.pyz")
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.name not in own}


def test_healthy_curricula_are_planned(tmp_path: Path) -> None:
    with TALLY.twin("a curriculum"):
        assert plan(tmp_path, {})[0] == 0


@pytest.mark.parametrize("fault", CURRICULA, ids=lambda fault: fault.name)
def test_the_plan_refuses_the_curriculum(tmp_path: Path, fault: CurriculumFault) -> None:
    with TALLY.planting(fault):
        code, errors = plan(tmp_path, fault.changes)
        assert code == 2
        assert fault.named[0] in errors
        assert "Traceback" not in errors
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("fault", STARTS, ids=lambda fault: fault.name)
def test_nothing_starts_from_it(two_stages: Chain, fault: StartFault) -> None:
    """Named by `plan` where it is seen there, by `run` in any case; nothing is started and nothing is lost."""
    fault.plant(two_stages)
    before = contents(two_stages.run)
    with TALLY.planting(fault):
        code, errors = plan(two_stages.folder, fault.changes)
        assert code == (2 if fault.caught_by == "plan" else 0), errors
        refused = stepladder("run", "tiny.yaml", cwd=two_stages.folder)
        assert refused.returncode == 2, refused.stderr
        for said in [refused.stderr, *([errors] if fault.caught_by == "plan" else [])]:
            assert fault.named[0] in said
            assert sum(line.startswith("hint:") for line in said.splitlines()) == 1
            assert "Traceback" not in said
    assert contents(two_stages.run) == before


def test_the_healthy_chain_goes_on(two_stages: Chain) -> None:
    with TALLY.twin("a chain whose last stage is to be run"):
        assert plan(two_stages.folder, {})[0] == 0
        done = stepladder("run", "tiny.yaml", cwd=two_stages.folder)
        assert done.returncode == 0, done.stderr
    assert set(FILES) | {"stepladder.json"} == {path.name for path in two_stages.checkpoint("two").iterdir()}


@pytest.mark.parametrize("changes", [MODEL, {"args": ZERO, "hook": False}], ids=str)
def test_a_healthy_start_is_planned(two_stages: Chain, changes: Mapping[str, Any]) -> None:
    shutil.copytree(two_stages.checkpoint("one"), two_stages.folder / "model", copy_function=shutil.copyfile)
    with TALLY.twin(f"a chain and {', '.join(changes)}"):
        code, errors = plan(two_stages.folder, changes)
        assert code == 0, errors


def test_fresh_sets_what_is_damaged_aside(two_stages: Chain) -> None:
    """The way out that the refusal names: the stage is trained again from the one before it."""
    (two_stages.checkpoint("two") / "optimizer.pt").unlink()
    done = stepladder("run", "tiny.yaml", "--fresh", "--stage", "two", cwd=two_stages.folder)
    assert done.returncode == 0, done.stderr
    assert list(two_stages.run.glob("2-two.before-*/checkpoint-13/stepladder.json"))
