"""Under older versions of transformers, with the worker brought along: exact, also after crashes, and verified.

The loops differ. 4.46 carries an accumulation over the end of an epoch and fetches micro-batches by so many as make a
step; 4.49 counts anew after a skip and takes steps for an epoch's that it does not make. 13 micro-batches accumulated
by 3 show all of it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from old_interpreters import interpreter
from support import plain_trainer, stepladder, tiny_curriculum

CONTINUE = {"data": "continue"}
#: Crashes in stage two: between two checkpoints, right after loading one, and while the next one is written.
KILLS = {"kill_at": "step:7,start:7,save:8", "save_steps": 2}


def end_bytes(folder: Path, name: str) -> bytes:
    """The weights that a chain of three stages ends with."""
    return (folder / f"runs/{name}/3-three/model.safetensors").read_bytes()


def run_to_the_end(folder: Path, curriculum: Path, crashes: int = 0) -> None:
    for _ in range(crashes):
        assert stepladder("run", curriculum, cwd=folder).returncode == 3
    done = stepladder("run", curriculum, cwd=folder)
    assert done.returncode == 0, done.stderr
    verified = stepladder("verify", f"runs/{curriculum.stem}", "--json", cwd=folder)
    assert json.loads(verified.stdout)["ok"], verified.stdout


def test_three_stages_equal_one_run(tmp_path: Path, old_python: str) -> None:
    run_to_the_end(tmp_path, tiny_curriculum(tmp_path, python=old_python, handover=CONTINUE))
    whole = plain_trainer(tmp_path, "whole", 24, python=old_python)
    assert end_bytes(tmp_path, "tiny") == whole.read_bytes()
    ends = (tmp_path / "runs/tiny/3-three", tmp_path / "whole")
    states = [json.loads((end / "checkpoint-24/trainer_state.json").read_text()) for end in ends]
    assert states[0]["log_history"] == states[1]["log_history"]


@pytest.mark.parametrize("samples", [50, 55, 41], ids=lambda samples: f"{samples} samples")
def test_killed_three_times_it_ends_in_the_same_bytes(tmp_path: Path, old_python: str, samples: int) -> None:
    """50: one micro-batch over; 55: two over, of which these loops fetch one; 41: two over, the last of one sample."""
    args = {"samples": samples, **KILLS}
    curriculum = tiny_curriculum(tmp_path, "tiny", "engine_train.py", python=old_python, handover=CONTINUE, args=args)
    run_to_the_end(tmp_path, curriculum, crashes=3)
    whole = plain_trainer(tmp_path, "whole", 24, python=old_python, samples=samples)
    assert end_bytes(tmp_path, "tiny") == whole.read_bytes()


def test_the_plain_chain_differs(tmp_path: Path, old_python: str) -> None:
    """Negative control: the same stages by the Trainer's own flags."""
    whole = plain_trainer(tmp_path, "whole", 24, python=old_python, samples=50).read_bytes()
    model, checkpoint = "new", {}
    for index, end in enumerate((5, 13, 24), start=1):
        output = f"stage{index}"
        # These versions cannot load their own random states under this torch.
        weights = plain_trainer(
            tmp_path, output, end, python=old_python, trust_files=True, model_name_or_path=model, **checkpoint
        )
        model, checkpoint = output, {"resume_from_checkpoint": f"{output}/checkpoint-{end}"}
    assert weights.read_bytes() != whole


@pytest.mark.parametrize("bare", [False, True], ids=["flag", "bare train()"])
def test_a_foreign_loop_equals_itself_in_one_run(tmp_path: Path, old_python: str, bare: bool) -> None:
    args = {"bare": bare}
    run_to_the_end(
        tmp_path, tiny_curriculum(tmp_path, "f", "foreign.py", python=old_python, handover=CONTINUE, args=args)
    )
    whole = plain_trainer(tmp_path, "whole", 24, python=old_python, script="foreign.py")
    assert end_bytes(tmp_path, "f") == whole.read_bytes()


def test_epoch_strategies_of_their_time(tmp_path: Path, old_python: str) -> None:
    """`eval_strategy` under its name of the version, a checkpoint at the end where the strategy writes none."""
    args = {"eval_strategy": "epoch", "save_strategy": "no"}
    stages = [{"name": "one", "steps": 3}, {"name": "two", "steps": 3}, {"name": "three", "steps": 3}]
    run_to_the_end(
        tmp_path,
        tiny_curriculum(tmp_path, "e", "odd.py", python=old_python, handover=CONTINUE, args=args, stages=stages),
    )
    whole = plain_trainer(tmp_path, "whole", 9, python=old_python, script="odd.py", **args)
    assert end_bytes(tmp_path, "e") == whole.read_bytes()


def test_fresh_data_and_a_new_rate_start_where_planned(tmp_path: Path, old_python: str) -> None:
    second = {"name": "two", "steps": 6, "args": {"learning_rate": 5e-4, "weight_decay": 0.1, "data_mixture": "second"}}
    stages = [{"name": "one", "steps": 4}, second, {"name": "three", "steps": 3}]
    run_to_the_end(tmp_path, tiny_curriculum(tmp_path, python=old_python, schedule="stage", stages=stages))


def test_a_checkpoint_of_a_newer_version_is_refused_in_the_plan(tmp_path: Path) -> None:
    stages = [{"name": "new", "steps": 2}, {"name": "old", "steps": 2, "python": interpreter("4.46")}]
    done = stepladder("plan", tiny_curriculum(tmp_path, stages=stages), cwd=tmp_path)
    assert done.returncode == 2
    assert "stage `old` has transformers 4.46.3 and starts from the checkpoint of 5." in done.stderr
    assert "whose `best_global_step` it does not know" in done.stderr


def test_a_newer_version_goes_on_from_an_older_one(tmp_path: Path) -> None:
    stages = [{"name": "old", "steps": 3}, {"name": "newer", "steps": 3, "python": interpreter("4.49")}]
    curriculum = tiny_curriculum(tmp_path, stages=stages, python=interpreter("4.46"), handover=CONTINUE)
    run_to_the_end(tmp_path, curriculum)
