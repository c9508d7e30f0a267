"""Schedules for real: the rates that training used are those of transformers' own schedulers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import get_scheduler

from support import plain_trainer, stepladder, tiny_curriculum

#: Types with the arguments that they need; `schedule: run` plans them all.
TYPES: dict[str, dict[str, Any]] = {
    "constant": {},
    "constant_with_warmup": {},
    "linear": {},
    "cosine": {},
    "cosine_with_restarts": {"num_cycles": 2},
    "polynomial": {"power": 2.0},
    "inverse_sqrt": {},
    "cosine_with_min_lr": {"min_lr_rate": 0.1},
    "cosine_warmup_with_min_lr": {"min_lr_rate": 0.1},
    "warmup_stable_decay": {"num_decay_steps": 3},
}


@pytest.mark.full  # the cosine is that of every other chain; test_schedule.py compares all types with transformers'
@pytest.mark.parametrize("kind", TYPES)
def test_a_chain_follows_one_curve(tmp_path: Path, kind: str) -> None:
    """Two stages under `schedule: run` end in the bytes of one plain run with the same arguments."""
    args = {"lr_scheduler_type": kind, "lr_scheduler_kwargs": TYPES[kind]}
    stages = [{"name": "one", "steps": 4}, {"name": "two", "steps": 4}]
    path = tiny_curriculum(tmp_path, args=args, stages=stages, handover={"data": "continue"})
    done = stepladder("run", path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    plain = {"lr_scheduler_type": kind, "lr_scheduler_kwargs": json.dumps(TYPES[kind])}
    whole = plain_trainer(tmp_path, "whole", 8, **plain)
    assert (tmp_path / "runs/tiny/2-two/model.safetensors").read_bytes() == whole.read_bytes()


def test_every_stage_warms_up_anew(tmp_path: Path) -> None:
    """`schedule: stage`: own rate, own warm-up and own type, each counted from the stage's first step."""
    wanted = [
        {"learning_rate": 1e-3, "lr_scheduler_type": "linear", "warmup_steps": 2},
        {"learning_rate": 4e-4, "lr_scheduler_type": "cosine", "warmup_steps": 3},
    ]
    stages = [{"name": f"s{index}", "steps": 6, "args": args} for index, args in enumerate(wanted)]
    path = tiny_curriculum(tmp_path, schedule="stage", stages=stages)
    done = stepladder("run", path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for index, args in enumerate(wanted):
        result = json.loads((tmp_path / f"runs/tiny/attempts/{index + 1}-s{index}/1/result.json").read_text())
        used = [rate for _, rate in result["evidence"]["lr"]["logged"]]
        assert used == rates(args, 6)


def rates(args: dict[str, Any], steps: int) -> list[float]:
    """What transformers' scheduler gives for every step of a run of its own."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=args["learning_rate"])
    scheduler = get_scheduler(args["lr_scheduler_type"], optimizer, args["warmup_steps"], steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


PLATEAU: dict[str, Any] = {
    "lr_scheduler_type": "reduce_lr_on_plateau",
    "lr_scheduler_kwargs": {"patience": 0, "threshold": 0.5},  # no evaluation is better by half: each reduces the rate
    "eval_strategy": "steps",
    "eval_steps": 2,
    "metric_for_best_model": "loss",
    "save_steps": 2,
}


@pytest.mark.full
def test_a_plateau_scheduler_goes_on_where_it_was(tmp_path: Path) -> None:
    """`schedule: script`: a rate that follows a metric has no curve; what it has come to is handed over."""
    stages = [{"name": "one", "steps": 4}, {"name": "two", "steps": 4}]
    args = {**PLATEAU, "odd": "none", "warmup_steps": None}
    changes = {"schedule": "script", "stages": stages, "handover": {"data": "continue"}}
    done = stepladder("run", tiny_curriculum(tmp_path, "odd", "odd.py", args=args, **changes), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    plain = {**PLATEAU, "lr_scheduler_kwargs": json.dumps(PLATEAU["lr_scheduler_kwargs"]), "warmup_steps": 0}
    whole = plain_trainer(tmp_path, "whole", 8, script="odd.py", odd="none", **plain)
    assert (tmp_path / "runs/odd/2-two/model.safetensors").read_bytes() == whole.read_bytes()
    result = json.loads((tmp_path / "runs/odd/attempts/2-two/1/result.json").read_text())
    assert result["evidence"]["lr"]["logged"][-1][1] == pytest.approx(1e-5)


def test_a_rate_that_follows_a_metric_cannot_be_planned(tmp_path: Path) -> None:
    args = {"lr_scheduler_type": "reduce_lr_on_plateau"}
    done = stepladder("plan", tiny_curriculum(tmp_path, args=args), cwd=tmp_path)
    assert done.returncode == 2
    assert "follows a metric, so its curve cannot be planned" in done.stderr
    assert "`schedule: script` leaves the scheduler to the script" in done.stderr
