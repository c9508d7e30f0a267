"""Random numbers drawn while data are loaded: the chain is exact, or says that it is not.

The learning rate is constant, so that the plain Trainer's own chain differs from one run by these numbers alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support import plain_trainer, stepladder, tiny_curriculum

#: 13 batches of 4, accumulated by 3, are 5 steps an epoch. The first epoch's order would hang on the seed alone.
MID_EPOCH, EPOCH_END, END = 7, 5, 12
CONSTANT = {"lr_scheduler_type": "constant", "warmup_steps": 0, "dataloader_num_workers": 0}
PERSISTENT = {"dataloader_num_workers": 2, "dataloader_persistent_workers": True}
BY_LENGTH = {"train_sampling_strategy": "group_by_length"}
UNSEEDED = {"accelerator_config": json.dumps({"use_seedable_sampler": False})}


def chain(folder: Path, boundary: int, **args: Any) -> tuple[bytes, dict[str, str]]:
    """The weights that two stages end with, and what `verify` says of the data of each."""
    stages = [{"name": "one", "steps": boundary}, {"name": "two", "steps": END - boundary}]
    changes = {"args": {**CONSTANT, **args}, "handover": {"data": "continue"}}
    path = tiny_curriculum(folder, "chain", "random_data.py", stages=stages, **changes)
    done = stepladder("run", path, cwd=folder)
    assert done.returncode == 0, done.stderr
    verdicts = json.loads(stepladder("verify", "runs/chain", "--json", cwd=folder).stdout)
    details = {
        stage["name"]: check["detail"]
        for stage in verdicts["stages"]
        for check in stage["checks"]
        if check["name"] == "data_position"
    }
    return (folder / f"runs/chain/2-two/checkpoint-{END}/model.safetensors").read_bytes(), details


def plain(folder: Path, boundary: int, **args: Any) -> tuple[bytes, bytes]:
    """The weights of the plain Trainer: of one run, and of the same run resumed at the boundary by its own flag."""
    args = {"script": "random_data.py", **CONSTANT, **args}
    whole = plain_trainer(folder, "whole", END, save_steps=boundary, **args)
    checkpoint = {"resume_from_checkpoint": f"whole/checkpoint-{boundary}"}
    return whole.read_bytes(), plain_trainer(folder, "resumed", END, **checkpoint, **args).read_bytes()


@pytest.mark.parametrize(
    ("boundary", "args"),
    [
        (MID_EPOCH, {"random": "item", **BY_LENGTH}),
        pytest.param(MID_EPOCH, {"random": "item"}, marks=pytest.mark.full),
        pytest.param(MID_EPOCH, {"random": "collator"}, marks=pytest.mark.full),
        pytest.param(MID_EPOCH, BY_LENGTH, marks=pytest.mark.full),
        pytest.param(MID_EPOCH, UNSEEDED, marks=pytest.mark.full),
        pytest.param(MID_EPOCH, {"random": "generator"}, marks=pytest.mark.full),
        pytest.param(EPOCH_END, {"random": "generator"}, marks=pytest.mark.full),
        pytest.param(EPOCH_END, PERSISTENT, marks=pytest.mark.full),
    ],
    ids=[
        "augmented samples grouped by length",
        "augmented samples",
        "augmenting collator",
        "grouped by length",
        "shuffled by the random state",
        "a generator of its own",
        "a generator of its own, at an epoch's end",
        "persistent workers, at an epoch's end",
    ],
)
def test_the_chain_equals_one_run(tmp_path: Path, boundary: int, args: dict[str, Any]) -> None:
    chained, details = chain(tmp_path, boundary, **args)
    whole, resumed = plain(tmp_path, boundary, **args)
    assert chained == whole
    assert "not exact" not in details["two"]
    assert resumed != whole, "negative control: the Trainer's own chain is exact as well"


@pytest.mark.full
def test_persistent_workers_within_an_epoch(tmp_path: Path) -> None:
    chained, _ = chain(tmp_path, MID_EPOCH, **PERSISTENT)
    assert chained == plain(tmp_path, MID_EPOCH, **PERSISTENT)[0]


def test_draws_of_data_workers_are_said(tmp_path: Path) -> None:
    """They hang on what each worker has loaded before, so that the chain goes on, and is not exact."""
    _, details = chain(tmp_path, MID_EPOCH, random="item", dataloader_num_workers=2)
    assert "not exact" not in details["one"]
    assert details["two"].endswith("not exact: random numbers are drawn in data workers")


@pytest.mark.full
def test_draws_of_data_workers_are_exact_at_an_epochs_end(tmp_path: Path) -> None:
    args = {"random": "item", "dataloader_num_workers": 2}
    chained, details = chain(tmp_path, EPOCH_END, **args)
    assert chained == plain(tmp_path, EPOCH_END, **args)[0]
    assert "not exact" not in details["two"]


def test_an_order_that_cannot_be_drawn_again_is_caught(tmp_path: Path) -> None:
    stages = [{"name": "one", "steps": MID_EPOCH}, {"name": "two", "steps": 2}]
    changes = {"args": {**CONSTANT, "random": "mixture"}, "handover": {"data": "continue"}}
    done = stepladder(
        "run", tiny_curriculum(tmp_path, "chain", "random_data.py", stages=stages, **changes), cwd=tmp_path
    )
    assert done.returncode == 4, done.stderr
    assert "data_position: started with samples" in done.stderr
