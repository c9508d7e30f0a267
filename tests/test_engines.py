"""What engines add to the contract: other numbers of processes, settings of their own, ranks that fail.

That chains are exact on each of them is shown by test_kills.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from engines import ENGINES, curriculum, run
from stepladder_worker import fingerprint
from support import stepladder, tiny_curriculum


def evidence(folder: Path, stage: str = "3-three") -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / f"runs/chain/attempts/{stage}/1/result.json").read_text())["evidence"]
    return facts


def test_the_number_of_processes_may_change_under_zero(tmp_path: Path) -> None:
    """ZeRO-3 on 2, 1 and 2 processes: `run` compares weights, moments and counters by name at each boundary."""
    stages = [{"name": f"on{n}", "steps": 2, "launcher": {"nproc_per_node": n}} for n in (2, 1)]
    stages.append({"name": "again", "steps": 2, "args": dict(ENGINES["zero-2"].args)})
    run(tmp_path, curriculum(tmp_path, "zero-3", stages=stages, handover={"data": "fresh"}))
    facts = evidence(tmp_path, "3-again")
    assert "ZeRO partitions of 1 processes cut anew for 2" in facts["notes"]
    assert set(facts["start"]["counters"].values()) == {4.0}
    assert set(facts["end"]["counters"].values()) == {6.0}


@pytest.mark.parametrize("engine", [pytest.param(name, marks=pytest.mark.full) for name in ("ddp", "fsdp-sharded")])
def test_the_number_of_processes_may_change(tmp_path: Path, engine: str) -> None:
    stages = [{"name": f"on{n}", "steps": 2, "launcher": {"nproc_per_node": n}} for n in (1, 2)]
    run(tmp_path, curriculum(tmp_path, engine, stages=stages, handover={"data": "fresh"}))
    facts = evidence(tmp_path, "2-on2")
    assert (facts["engine"], facts["world_size"]) == (ENGINES[engine].kind, 2)
    assert "random states of 1 processes handed over to 2" in facts["notes"]
    assert set(facts["start"]["counters"].values()) == {2.0}


def test_the_stages_settings_are_in_force_under_zero(tmp_path: Path) -> None:
    """Trap 2 and a scheduler of DeepSpeed's own; `optimizer: reset` starts Adam anew with the weights kept.

    It hands over weights alone, so that a stage may train what the stage before froze.
    """
    config = ENGINES["zero-3"].args["deepspeed"]
    scheduler = {"type": "WarmupLR", "params": {"warmup_max_lr": 0.5, "warmup_num_steps": 1}}
    settings = {"weight_decay": 0.2, "learning_rate": 5e-4, "adam_beta1": 0.8, "adam_beta2": 0.95}
    stages = [
        {"name": "one", "steps": 2},
        {"name": "two", "steps": 2, "args": settings},
        {"name": "three", "steps": 2, "trainable": ["*"], "handover": {"optimizer": "reset"}},
    ]
    changes = {"args": {"deepspeed": {**config, "scheduler": scheduler}}, "trainable": ["*", "!lm_head*"]}
    run(tmp_path, curriculum(tmp_path, "zero-3", schedule="stage", stages=stages, **changes))
    facts = evidence(tmp_path, "2-two")
    assert {group["weight_decay"] for group in facts["groups"]} == {0.2, 0.0}
    assert [group["betas"] for group in facts["groups"]] == [[0.8, 0.95]] * 2
    assert facts["lr"]["bases"] == [5e-4] * 2
    assert "the planned learning-rate curve replaces the scheduler of the DeepSpeed configuration" in facts["notes"]
    before, facts = facts, evidence(tmp_path, "3-three")
    assert "lm_head.weight" not in before["end"]["optimizer_names"]
    assert facts["start"]["counters"] == facts["start"]["moments"] == {}
    assert facts["start"]["weights"] == before["end"]["weights"]
    assert set(facts["end"]["counters"].values()) == {2.0}
    assert len(facts["end"]["counters"]) == len(facts["end"]["weights"])


def test_an_optimizer_of_deepspeeds_own_continues(tmp_path: Path) -> None:
    """Its scheduler is made for a copy of the Trainer; hyper-parameters stand in the configuration."""
    values = dict.fromkeys(("lr", "betas", "eps", "weight_decay"), "auto")
    optimizer = {"type": "AdamW", "params": {**values, "torch_adam": True}}
    args = {"deepspeed": {**ENGINES["zero-2"].args["deepspeed"], "optimizer": optimizer}}
    stages = [{"name": "one", "steps": 2}, {"name": "two", "steps": 2}]
    run(tmp_path, curriculum(tmp_path, "zero-2", stages=stages, args=args))
    assert set(evidence(tmp_path, "2-two")["start"]["counters"].values()) == {2.0}


def test_sharding_that_does_not_happen_is_refused(tmp_path: Path) -> None:
    """On the CPU accelerate trains FSDP as DDP; tiny_train does nothing about it."""
    path = tiny_curriculum(tmp_path, args=ENGINES["fsdp"].args, launcher={"nproc_per_node": 2})
    done = stepladder("run", path, cwd=tmp_path)
    assert done.returncode == 3
    assert "the curriculum asks for fsdp, but no parameter is sharded (ddp)" in done.stderr


def test_the_rank_that_failed_is_heard(tmp_path: Path) -> None:
    path = curriculum(tmp_path, "ddp", args={"fail_on_rank": 1})
    done = stepladder("run", path, cwd=tmp_path)
    assert done.returncode == 3
    assert "RuntimeError: planted on one rank (rank 1)" in done.stderr


def test_another_objective_under_an_engine_is_refused(tmp_path: Path) -> None:
    stages = [{"name": kind, "steps": 2, "script": f"module:trl.scripts.{kind}"} for kind in ("sft", "reward")]
    done = stepladder("plan", curriculum(tmp_path, "zero-3", stages=stages), cwd=tmp_path)
    assert done.returncode == 2
    assert "from sft to reward under deepspeed, which hands over one model whole" in done.stderr


def test_fsdp_saves_in_one_way(tmp_path: Path) -> None:
    stages = [{"name": "one", "steps": 2}, {"name": "two", "steps": 2, "args": ENGINES["fsdp-sharded"].args}]
    done = stepladder("plan", curriculum(tmp_path, "fsdp", stages=stages), cwd=tmp_path)
    assert done.returncode == 2
    assert "state_dict_type SHARDED_STATE_DICT after FULL_STATE_DICT in the stage before" in done.stderr


def test_one_engine_for_all_stages(tmp_path: Path) -> None:
    stages = [{"name": "one", "steps": 2}, {"name": "two", "steps": 2, "args": {"deepspeed": None}}]
    done = stepladder("plan", curriculum(tmp_path, "zero-3", stages=stages), cwd=tmp_path)
    assert done.returncode == 2
    assert "trains with no engine, the stage before with deepspeed, expected one for all stages" in done.stderr


def test_one_engine_in_a_stage(tmp_path: Path) -> None:
    args = {**ENGINES["zero-3"].args, **ENGINES["fsdp"].args}
    done = stepladder("plan", curriculum(tmp_path, "zero-3", args=args), cwd=tmp_path)
    assert done.returncode == 2
    assert "deepspeed and fsdp in one stage, expected one engine" in done.stderr


@pytest.mark.parametrize("engine", ["fsdp-sharded", "zero-3"])
def test_a_model_saved_in_shards_alone_is_made_whole(tmp_path: Path, engine: str) -> None:
    """Frozen parameters are part of it, which ZeRO keeps apart."""
    args = json.loads(json.dumps(ENGINES[engine].args))
    if engine == "zero-3":
        args["deepspeed"]["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] = False
    stages = [{"name": "one", "steps": 2, "trainable": ["*", "!*embed*"]}]
    run(tmp_path, curriculum(tmp_path, engine, stages=stages, args=args))
    checkpoint = tmp_path / "runs/chain/1-one/checkpoint-2"
    saved = json.loads((checkpoint / "stepladder.json").read_text())["state"]["weights"]
    made = load_file(tmp_path / "runs/chain/1-one/model.safetensors")
    assert {name: fingerprint.of_tensor(tensor) for name, tensor in made.items()} == saved
