"""Faults in what a training does: named by `verify` or ended by the worker; what Stepladder mends passes under it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chain import failing
from corpus import TALLY
from in_training import FAULTS, Arguments, TrainingFault
from shared import once
from support import stepladder, tiny_curriculum

#: One step a micro-batch and a flat learning rate, so that the plain Trainer's own curve is the planned one.
COMMON = {"gradient_accumulation_steps": 1, "dataloader_num_workers": 0, "warmup_steps": 0, "save_steps": 100}
FLAT = {**COMMON, "lr_scheduler_type": "constant"}
FirstStage = Callable[[Arguments], Path]


@pytest.fixture(scope="session")
def first_stage(tmp_path_factory: pytest.TempPathFactory) -> FirstStage:
    """A folder with the healthy first stage of given arguments, trained once."""
    trained: dict[str, Path] = {}

    def train(first: Arguments) -> Path:
        key = json.dumps(first)
        if key not in trained:
            name = f"first-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
            trained[key] = once(tmp_path_factory, name, lambda folder: run(folder, first))
        return trained[key]

    def run(folder: Path, first: Arguments) -> None:
        done = stepladder("run", curriculum(folder, first, {}), "--stage", "one", cwd=folder)
        assert done.returncode == 0, done.stderr

    return train


def curriculum(folder: Path, first: Arguments, second: Arguments, hook: bool = True, **stage: Any) -> Path:
    """Two stages of four steps over the same data; the second one is a continuation unless it says otherwise."""
    stages = [{"name": "one", "steps": 4, "args": dict(first)}, {"name": "two", "steps": 4, "args": dict(second)}]
    stages[1] |= {"handover": {"data": "continue"}, **stage}
    return tiny_curriculum(folder, "tiny", "faulty.py", stages=stages, args=FLAT, schedule="stage", hook=hook)


def second_stage(folder: Path, fault: TrainingFault, hook: bool) -> subprocess.CompletedProcess[str]:
    return stepladder("run", curriculum(folder, fault.first, fault.args, hook, **fault.stage), cwd=folder)


def chosen(faults: list[TrainingFault]) -> list[Any]:
    """Parameters of a test: what is not quick is left to the full suite."""
    return [pytest.param(fault, id=fault.name, marks=[] if fault.quick else pytest.mark.full) for fault in faults]


@pytest.mark.parametrize("fault", chosen(FAULTS))
def test_it_is_named(first_stage: FirstStage, tmp_path: Path, fault: TrainingFault) -> None:
    """By the checks of `verify` that fail, or by what the worker says when it ends the stage."""
    shutil.copytree(first_stage(fault.first), tmp_path / "copy", copy_function=shutil.copyfile)
    with TALLY.planting(fault):
        done = second_stage(tmp_path / "copy", fault, fault.hook)
        if fault.caught_by == "worker":
            assert done.returncode == 3, done.stderr
            assert fault.named[0] in done.stderr
        else:
            assert done.returncode in (3, 4), done.stderr
            assert failing(tmp_path / "copy") == {"one": set(), "two": set(fault.named)}, done.stderr


@pytest.mark.parametrize("fault", chosen([fault for fault in FAULTS if fault.mended]))
def test_under_stepladder_it_is_mended(first_stage: FirstStage, tmp_path: Path, fault: TrainingFault) -> None:
    shutil.copytree(first_stage(fault.first), tmp_path / "copy", copy_function=shutil.copyfile)
    with TALLY.twin(fault.name):
        done = second_stage(tmp_path / "copy", fault, hook=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("hook", [True, pytest.param(False, marks=pytest.mark.full)])
def test_the_script_without_a_fault_passes(first_stage: FirstStage, tmp_path: Path, hook: bool) -> None:
    """The twin of every script's fault, under Stepladder and by itself."""
    shutil.copytree(first_stage({}), tmp_path / "copy", copy_function=shutil.copyfile)
    with TALLY.twin(f"the faulty script without a fault, hook: {hook}"):
        done = stepladder("run", curriculum(tmp_path / "copy", {}, {}, hook), cwd=tmp_path / "copy")
        assert done.returncode == 0, done.stderr
