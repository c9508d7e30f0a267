"""The plan's numbers, commands and warnings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import HfArgumentParser, TrainingArguments

from stepladder.curriculum import hf_args
from stepladder.curriculum.spec import Curriculum
from stepladder.planning.plan import Plan
from stepladder.planning.resolve import make_plan

PYTHON = "/env/python"


def planned(transformers: dict[str, str | None] | None = None, **changes: Any) -> Plan:
    written: dict[str, Any] = {
        "name": "demo",
        "model_name_or_path": "base",
        "output_dir": "runs/demo",
        "script": "train.py",
        "args": {"learning_rate": 1e-3, "lr_scheduler_type": "cosine", "warmup_ratio": 0.1},
        "stages": [{"name": "a", "steps": 40}, {"name": "b", "until_step": 100}, {"name": "c", "steps": 100}],
    }
    return make_plan(Curriculum.model_validate(written | changes), transformers, PYTHON)


def stages(*own: dict[str, Any], steps: int = 10) -> list[dict[str, Any]]:
    return [{"name": f"s{index}", "steps": steps, **stage} for index, stage in enumerate(own)]


def test_steps_are_cumulative_and_each_stage_starts_from_the_one_before() -> None:
    plan = planned()
    assert [(s.index, s.start_step, s.end_step) for s in plan.stages] == [(1, 0, 40), (2, 40, 100), (3, 100, 200)]
    assert [s.model for s in plan.stages] == ["base", "runs/demo/1-a", "runs/demo/2-b"]
    assert [s.resume_from for s in plan.stages] == [
        None,
        "runs/demo/1-a/checkpoint-40",
        "runs/demo/2-b/checkpoint-100",
    ]


def test_one_curve_for_the_run() -> None:
    plan = planned()
    first = plan.stages[0].curve
    assert first is not None
    assert (first.total_steps, first.warmup_steps, first.offset) == (200, 20, 0)
    assert all(stage.curve == first for stage in plan.stages)
    assert plan.stages[0].lr_end == plan.stages[1].lr_start == first.lr(40)
    assert plan.stages[2].lr_end == 0.0
    assert plan.warnings == ()


def test_one_curve_a_stage() -> None:
    plan = planned(schedule="stage", stages=stages({}, {"args": {"learning_rate": 5e-4}}))
    second = plan.stages[1].curve
    assert second is not None
    assert (second.peak, second.offset, second.total_steps, second.warmup_steps) == (5e-4, 10, 10, 1)
    assert plan.stages[1].in_force["learning_rate"] == 5e-4


def test_the_scripts_own_curve_is_shown_with_its_jump() -> None:
    plan = planned(schedule="script")
    assert [stage.curve for stage in plan.stages] == [None] * 3
    assert plan.stages[0].lr_end == 0.0
    assert plan.stages[1].lr_start == pytest.approx(7.5e-4)  # a third of the way down from 1e-3: (1 + cos 60°) / 2
    assert any("a -> b (step 40): the learning rate jumps from 0 to" in text for text in plan.warnings)
    assert "learning_rate" not in plan.stages[1].in_force
    assert planned(schedule="script", args={}).stages[0].lr_start is None


def test_data_continues_from_where_its_order_began() -> None:
    go_on = {"handover": {"data": "continue"}}
    plan = planned(stages=stages({}, {}, go_on, go_on, {}))
    assert [stage.data_start_step for stage in plan.stages] == [0, 10, 10, 10, 40]


def test_a_stage_overrides_part_of_the_handover_and_of_the_launcher() -> None:
    plan = planned(
        handover={"rng": "reset"},
        launcher={"nproc_per_node": 2},
        stages=stages({}, {"handover": {"optimizer": "reset"}, "launcher": {"nnodes": 1}}),
    )
    second = plan.stages[1]
    assert (second.handover.optimizer, second.handover.rng, second.handover.data) == ("reset", "reset", "fresh")
    assert (second.launcher.nproc_per_node, second.batch.samples) == (2, 16)


def test_the_commands_with_and_without_the_worker() -> None:
    stage = planned(stages=stages({}, {"args": {"flags": ["x", "y"], "bf16": True, "warmup_ratio": None}})).stages[1]
    own = ["--model_name_or_path", "runs/demo/1-s0", "--resume_from_checkpoint", "runs/demo/1-s0/checkpoint-10"]
    own += ["--output_dir", "runs/demo/2-s1", "--max_steps", "20", "--learning_rate", "0.001"]
    own += ["--lr_scheduler_type", "cosine", "--flags", "x", "y", "--bf16", "True"]
    run = ["-m", "torch.distributed.run"]
    shape = ["--nnodes=1", "--nproc_per_node=1"]
    assert stage.argv == [PYTHON, *run, "--standalone", *shape, "runs/demo/worker.pyz", "train.py", *own]
    assert stage.plain_argv == ["python", *run, *shape, "train.py", *own]


def test_a_module_is_run_with_m() -> None:
    stage = planned(script="module:trl.scripts.sft", python="/other/python").stages[0]
    assert stage.argv[6:9] == ["runs/demo/worker.pyz", "-m", "trl.scripts.sft"]
    assert stage.plain_argv[0] == stage.argv[0] == "/other/python"


def test_a_hook_that_is_off_is_warned_of() -> None:
    assert any("the worker only observes" in text for text in planned(hook=False).warnings)


def test_other_data_that_continues_is_warned_of() -> None:
    own = {"args": {"data": "b.jsonl"}, "handover": {"data": "continue"}}
    plan = planned(stages=stages({"args": {"data": "a.jsonl"}}, own))
    assert any("`data: continue`, but data differs" in text for text in plan.warnings)


def test_sources_and_changes() -> None:
    stage = planned(stages=stages({}, {"args": {"max_tiles": 4}, "env": {"HF_TOKEN": "secret"}})).stages[1]
    assert stage.sources["learning_rate"] == "args"
    assert stage.sources["max_tiles"] == "stage s1"
    assert stage.sources["per_device_train_batch_size"] == "default of transformers (8)"
    assert "max_tiles (not given) -> 4" in stage.changes
    assert "secret" not in " ".join(stage.changes)


def test_json_round_trip_hides_secrets() -> None:
    plan = planned(env={"HF_TOKEN": "t0p", "WANDB_API_KEY": "k3y", "PLAIN": "shown"})
    data = json.loads(json.dumps(plan.to_json()))
    assert data["version"] == 3
    assert data["stages"][0]["env"] == {
        "PYTHONFAULTHANDLER": "1",
        "TORCH_SHOW_CPP_STACKTRACES": "1",
        "HF_TOKEN": "***",
        "WANDB_API_KEY": "***",
        "PLAIN": "shown",
    }
    assert plan.stages[0].env["HF_TOKEN"] == "t0p"
    assert Plan.from_json(data).to_json() == data
    with pytest.raises(ValueError, match="version 99"):
        Plan.from_json(data | {"version": 99})


OLD = {"evaluation_strategy": "steps", "eval_steps": 5, "warmup_ratio": 0.03, "no_cuda": True}


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (None, OLD),
        ("4.37.2", OLD),
        ("4.46.3", {"eval_strategy": "steps", "eval_steps": 5, "warmup_ratio": 0.03, "no_cuda": True}),
        ("5.23.0", {"eval_strategy": "steps", "eval_steps": 5, "warmup_steps": 0.03, "use_cpu": True}),
    ],
)
def test_names_follow_the_version_of_transformers(version: str | None, expected: dict[str, Any]) -> None:
    assert hf_args.for_version(OLD, version) == expected


def test_the_installed_transformers_parses_what_is_emitted(tmp_path: Path) -> None:
    args = {
        **OLD,
        "learning_rate": "1e-5",
        "lr_scheduler_kwargs": {"num_cycles": 2},
        "bf16": False,
        "report_to": ["none"],
    }
    import transformers

    emitted = hf_args.argv({"output_dir": str(tmp_path), **hf_args.for_version(args, transformers.__version__)})
    (parsed,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses(emitted)
    assert (parsed.learning_rate, parsed.get_warmup_steps(200), parsed.eval_strategy) == (1e-5, 6, "steps")
    assert parsed.lr_scheduler_kwargs == {"num_cycles": 2}
    assert parsed.use_cpu is True


def test_arguments_that_stepladder_understands_exist_in_transformers() -> None:
    known = set(TrainingArguments.__dataclass_fields__)
    assert known >= hf_args.UNDERSTOOD - {"warmup_ratio", "evaluation_strategy"}


def test_a_value_that_looks_like_an_option_stays_a_value() -> None:
    assert hf_args.argv({"prompt": "--x", "shift": -1, "rate": 1e-05}) == [
        "--prompt=--x",
        "--shift",
        "-1",
        "--rate",
        "1e-5",
    ]
