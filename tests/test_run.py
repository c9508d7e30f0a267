"""Runs that go wrong, and runs that are interrupted: named, kept, continued."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from support import check_names, processes_of, start, stepladder, tiny_curriculum, wait_for, wait_for_step

FAST = {"gradient_accumulation_steps": 1, "dataloader_num_workers": 0, "save_steps": 2}


def troubled(folder: Path, kind: str, step: int = 0) -> Path:
    """Two stages of 4 and 6 steps; the second one has the planted trouble."""
    stages: list[dict[str, Any]] = [
        {"name": "good", "steps": 4},
        {"name": "bad", "steps": 6, "args": {"trouble": kind, "trouble_step": step}},
    ]
    return tiny_curriculum(folder, "troubled", "troubled.py", stages=stages, args=FAST)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("undisturbed")
    done = stepladder("run", troubled(folder, "none"), cwd=folder)
    assert done.returncode == 0, done.stderr
    return weights(folder)


def weights(folder: Path) -> bytes:
    return (folder / "runs/troubled/2-bad/model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("kind", "step", "words"),
    [
        ("raise", 8, "RuntimeError: planted trouble"),
        pytest.param("exit0", 0, "ended with exit code 0 without training", marks=pytest.mark.full),
        ("short", 7, "stopped short: global step 7, planned 10"),
        pytest.param("nan", 0, "the loss is not finite at step 8", marks=pytest.mark.full),
    ],
)
def test_a_failing_stage_is_named_and_costs_nothing_else(
    tmp_path: Path, kind: str, step: int, words: str, undisturbed: bytes
) -> None:
    failed = stepladder("run", troubled(tmp_path, kind, step), cwd=tmp_path)
    assert failed.returncode == 3, failed.stderr
    assert "stage bad failed" in failed.stderr
    assert words in failed.stderr
    assert "stage_bad_full.log" in failed.stderr
    assert sum(line.startswith("hint:") for line in failed.stderr.splitlines()) == 1
    assert "Traceback (most recent call last)" not in failed.stderr.split("its last lines")[0]
    first = tmp_path / "runs/troubled/1-good"
    before = (first / "model.safetensors").stat().st_mtime_ns
    verified = json.loads(stepladder("verify", "runs/troubled", "--json", cwd=tmp_path).stdout)
    assert all(check_names(verified, "good").values())
    assert not verified["ok"]

    done = stepladder("run", troubled(tmp_path, "none"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (first / "model.safetensors").stat().st_mtime_ns == before
    assert weights(tmp_path) == undisturbed


@pytest.mark.full
def test_a_rank_that_is_killed_continues_at_the_next_step(tmp_path: Path, undisturbed: bytes) -> None:
    failed = stepladder("run", troubled(tmp_path, "kill", 9), cwd=tmp_path)
    assert failed.returncode == 3, failed.stderr
    done = stepladder("run", troubled(tmp_path, "none"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "runs/troubled/attempts/2-bad/2/result.json").read_text())
    assert result["evidence"]["steps"] == {"first": 9, "last": 10, "count": 2}
    assert weights(tmp_path) == undisturbed


def test_a_script_that_fails_after_its_end_counts_as_done(tmp_path: Path, undisturbed: bytes) -> None:
    done = stepladder("run", troubled(tmp_path, "late"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "reached its end, then its script failed" in done.stderr
    assert weights(tmp_path) == undisturbed


def test_ctrl_c_leaves_a_checkpoint_no_process_and_a_run_that_continues(tmp_path: Path, undisturbed: bytes) -> None:
    curriculum = tiny_curriculum(
        tmp_path,
        "troubled",
        "troubled.py",
        args={**FAST, "save_steps": 1000},
        stages=[{"name": "good", "steps": 4}, {"name": "bad", "steps": 3000}],
    )
    engine = start(tmp_path, "run", curriculum)
    wait_for_step(tmp_path / "runs/troubled", "2-bad", 6)
    engine.send_signal(signal.SIGINT)
    _, errors = engine.communicate(timeout=60)
    assert engine.returncode == 130, errors
    assert "was stopped at checkpoint-" in errors
    assert processes_of(tmp_path) == []
    status = json.loads(stepladder("status", "runs/troubled", "--json", cwd=tmp_path).stdout)
    bad = status["stages"][1]
    assert bad["state"] == "interrupted"
    assert bad["step"] >= 6
    curriculum = tiny_curriculum(
        tmp_path,
        "troubled",
        "troubled.py",
        args={**FAST, "save_steps": 1000},
        stages=[{"name": "good", "steps": 4}, {"name": "bad", "steps": bad["step"] + 2}],
    )
    again = stepladder("run", curriculum, cwd=tmp_path)
    # A few steps more than the interrupted attempt made. Under `schedule: run` that is another curve: from here on.
    assert again.returncode == 0, again.stderr
    assert f"stage bad: steps 3000 -> {bad['step'] + 2}" in again.stderr
    assert f"the learning rate of step {bad['step'] + 1} was planned as" in again.stderr


def test_a_second_engine_is_refused(tmp_path: Path) -> None:
    first = start(tmp_path, "run", troubled(tmp_path, "hang", 9))
    wait_for(tmp_path / "runs/troubled/2-bad/checkpoint-8/stepladder.json")
    second = stepladder("run", troubled(tmp_path, "hang", 9), cwd=tmp_path)
    assert second.returncode == 2
    assert f"process {first.pid}" in second.stderr
    os.kill(first.pid, signal.SIGINT)
    time.sleep(0.5)
    os.kill(first.pid, signal.SIGINT)  # the training hangs and cannot write a checkpoint: end it
    first.communicate(timeout=30)
    assert first.returncode == 130
    assert processes_of(tmp_path) == []
