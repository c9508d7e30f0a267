"""What real scripts do beside the plain Trainer: exact all the same, or caught by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support import plain_trainer, stepladder, tiny_curriculum

#: 13 batches of 4, accumulated by 3, are 5 steps an epoch: the first boundary is the end of an epoch.
AT_EPOCH_END = [{"name": "one", "steps": 5}, {"name": "two", "steps": 4}]
IN_MID_EPOCH = [{"name": "one", "steps": 3}, {"name": "two", "steps": 6}]
EPOCHS = {"eval_strategy": "epoch", "save_strategy": "epoch"}
BEST = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "best", "metric_for_best_model": "loss"}
BEST_OF_EPOCHS = {**EPOCHS, "load_best_model_at_end": True, "save_total_limit": 1}


def chain(folder: Path, odd: str, stages: list[dict[str, Any]], **args: Any) -> tuple[int, str]:
    curriculum = tiny_curriculum(
        folder, "odd", "odd.py", stages=stages, args={"odd": odd, **args}, handover={"data": "continue"}
    )
    done = stepladder("run", curriculum, cwd=folder)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("odd", "stages", "args"),
    [
        pytest.param("count_in_group", IN_MID_EPOCH, {"weight_decay": 0.0}, marks=pytest.mark.full),
        pytest.param("none", AT_EPOCH_END, EPOCHS, marks=pytest.mark.full),
        ("none", IN_MID_EPOCH, EPOCHS),
        pytest.param("none", IN_MID_EPOCH, BEST, marks=pytest.mark.full),
        pytest.param("frozen", IN_MID_EPOCH, {}, marks=pytest.mark.full),
    ],
    ids=[
        "counter in the group",
        "evaluation at a boundary",
        "evaluation of epochs",
        "only the best saved",
        "frozen part",
    ],
)
def test_the_chain_equals_one_run(tmp_path: Path, odd: str, stages: list[dict[str, Any]], args: dict[str, Any]) -> None:
    code, errors = chain(tmp_path, odd, stages, **args)
    assert code == 0, errors
    whole = plain_trainer(tmp_path, "whole", 9, script="odd.py", odd=odd, **args)
    assert (tmp_path / "runs/odd/2-two/checkpoint-9/model.safetensors").read_bytes() == whole.read_bytes()


def test_best_model_and_limit_cost_no_boundary_checkpoint(tmp_path: Path) -> None:
    """Trap 7: best of its own stage, and the boundary survives `save_total_limit: 1`."""
    code, errors = chain(tmp_path, "none", AT_EPOCH_END, **BEST_OF_EPOCHS)
    assert code == 0, errors
    assert (tmp_path / "runs/odd/1-one/checkpoint-5/stepladder.json").exists()
    assert (tmp_path / "runs/odd/2-two/checkpoint-9/stepladder.json").exists()


def test_an_iterable_data_set_trains(tmp_path: Path) -> None:
    code, errors = chain(tmp_path, "iterable", IN_MID_EPOCH)
    assert code == 0, errors
