"""A script that computes its own resume flag continues under Stepladder, and is caught without it."""

from __future__ import annotations

import json
from pathlib import Path

from support import check_names, stepladder, tiny_curriculum

STAGES = [{"name": "first", "steps": 40}, {"name": "second", "steps": 60}]
#: Constant, so that the plain script's own curve is the planned one and only the boundary is at stake.
FAST = {"lr_scheduler_type": "constant", "gradient_accumulation_steps": 1, "dataloader_num_workers": 0}


def counters(folder: Path, stage: str) -> tuple[set[float], set[float]]:
    """Adam's step counters right after loading and at the end of a stage, as the worker recorded them."""
    evidence = json.loads((folder / f"attempts/{stage}/1/result.json").read_text())["evidence"]
    return set(evidence["start"]["counters"].values()), set(evidence["end"]["counters"].values())


def test_under_stepladder_it_continues(tmp_path: Path) -> None:
    curriculum = tiny_curriculum(tmp_path, "own", "own_resume.py", stages=STAGES, args=FAST)
    done = stepladder("run", curriculum, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert counters(tmp_path / "runs/own", "1-first") == (set(), {40})
    assert counters(tmp_path / "runs/own", "2-second") == ({40}, {100})


def test_without_the_hook_verify_names_what_did_not_continue(tmp_path: Path) -> None:
    curriculum = tiny_curriculum(tmp_path, "own", "own_resume.py", stages=STAGES, args=FAST, hook=False)
    done = stepladder("run", curriculum, cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    state = json.loads((tmp_path / "runs/own/2-second/checkpoint-100/trainer_state.json").read_text())
    assert state["global_step"] == 100
    verified = stepladder("verify", "runs/own", "--json", cwd=tmp_path)
    assert verified.returncode == 1
    document = json.loads(verified.stdout)
    assert not document["ok"]
    assert all(check_names(document, "first").values())
    second = check_names(document, "second")
    assert second["global_step"]
    assert not second["optimizer"]
    assert not second["steps_trained"]
    assert not second["random_state"]
    assert "step counters 0, expected 40" in verified.stdout
