"""SFT, then DPO, then a reward model, with TRL's own scripts: weights only, said aloud, and proven by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stepladder.curriculum.parse import load
from stepladder.errors import CurriculumError
from stepladder.planning.plan import Plan
from stepladder.planning.resolve import make_plan
from stepladder.trainer import tiny
from stepladder_worker.objective import taken_over
from support import check_names, stepladder

ARGS: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "cosine",
    "per_device_train_batch_size": 4,
    "max_length": 64,
    "logging_steps": 1,
    "report_to": "none",
    "disable_tqdm": True,
}
QUESTIONS = [f"Where is the {thing}?" for thing in ("cup", "lamp", "plant", "chair", "table", "door", "book", "ball")]


def rows(kind: str) -> list[dict[str, str]]:
    """A data set in the form that each of the scripts takes."""
    right, wrong = " It is here, on the left.", " I do not know."
    if kind == "sft":
        return [{"prompt": question, "completion": right} for question in QUESTIONS]
    return [{"prompt": question, "chosen": right, "rejected": wrong} for question in QUESTIONS]


def curriculum(folder: Path, *kinds: str, stages: tuple[dict[str, Any], ...] = (), **changes: Any) -> Path:
    """Write a curriculum of one TRL script a stage, four steps each."""
    for kind in kinds:
        (folder / "data" / kind).mkdir(parents=True, exist_ok=True)
        lines = (json.dumps(row) + "\n" for row in rows(kind))
        (folder / "data" / kind / "train.jsonl").write_text("".join(lines), "utf-8")
    written = [
        {"name": kind, "steps": 4, "script": f"module:trl.scripts.{kind}", "args": {"dataset_name": f"data/{kind}"}}
        for kind in kinds
    ]
    for stage, own in zip(written, stages, strict=False):
        stage.update(own)
    path = folder / "objectives.yaml"
    whole = {"name": "o", "model_name_or_path": "model", "output_dir": "run", "args": ARGS, "stages": written}
    path.write_text(json.dumps(whole | changes, indent=1), "utf-8")  # JSON is YAML
    return path


def plan(path: Path) -> Plan:
    return make_plan(load(str(path)).curriculum)


def evidence(run: Path, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / f"attempts/{stage}/1/result.json").read_text())["evidence"]
    return found


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where SFT, DPO and reward modelling ran as three stages."""
    folder = tmp_path_factory.mktemp("objectives")
    text = folder / "text.txt"
    text.write_text("\n".join([*QUESTIONS, "It is here, on the left.", "I do not know."]), "utf-8")
    tiny.build(folder / "model", "llama", [text])
    done = stepladder("run", curriculum(folder, "sft", "dpo", "reward"), cwd=folder, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "sft -> dpo, the objective changes, so the optimizer starts anew: weights only" in done.stderr
    return folder


def test_each_stage_starts_with_the_weights_and_a_fresh_optimizer(chain: Path) -> None:
    before = evidence(chain / "run", "1-sft")
    for stage in ("2-dpo", "3-reward"):
        now = evidence(chain / "run", stage)
        taken = taken_over(before["end"]["weights"], now["start"]["weights"])
        assert len(taken.common) > 10
        assert all(before["end"]["weights"][name] == now["start"]["weights"][name] for name in taken.common)
        assert now["start"]["counters"] == {}
        assert set(now["end"]["counters"].values()) == {4}
        assert now["start"]["global_step"] == before["end"]["global_step"]
        before = now


def test_the_new_head_is_said_aloud_and_verified_by_name(chain: Path) -> None:
    notes = " ".join(evidence(chain / "run", "3-reward")["notes"])
    assert "parameters taken over, 1 new (score.weight), 0 dropped" in notes
    document = json.loads(stepladder("verify", "run", "--json", cwd=chain).stdout)
    assert document["ok"]
    details = [c["detail"] for s in document["stages"] for c in s["checks"] if c["name"] == "weights"]
    assert details[1].startswith("another objective: ")
    assert details[2].endswith("1 new (score.weight), 0 dropped")


def test_weights_that_were_not_taken_over_fail_by_name(chain: Path) -> None:
    """Negative control: the record of stage 2 tells of one other weight at its start."""
    path = chain / "run/attempts/2-dpo/1/result.json"
    honest = path.read_text()
    result = json.loads(honest)
    weights = result["evidence"]["start"]["weights"]
    name = next(iter(weights))
    weights[name] = weights[name][:-1] + ("0" if weights[name][-1] != "0" else "1")
    path.write_text(json.dumps(result))
    try:
        document = json.loads(stepladder("verify", "run", "--json", cwd=chain).stdout)
    finally:
        path.write_text(honest)
    assert not check_names(document, "dpo")["weights"]


def test_another_objective_resets_the_optimizer_where_nothing_is_stated(tmp_path: Path) -> None:
    made = plan(curriculum(tmp_path, "sft", "dpo", "dpo", stages=({}, {}, {"name": "more"})))
    assert [stage.new_objective for stage in made.stages] == [False, True, False]
    assert [stage.handover.optimizer for stage in made.stages] == ["keep", "reset", "keep"]
    assert [text for text in made.warnings if "objective" in text] == [
        "sft -> dpo (step 4): sft -> dpo, the objective changes, so the optimizer starts anew: weights only"
    ]


def test_the_built_in_trainer_trains_what_trl_calls_sft(tmp_path: Path) -> None:
    own = {"script": "module:stepladder.trainer"}
    made = plan(curriculum(tmp_path, "sft", "sft", "dpo", stages=(own, {"name": "more"})))
    assert [stage.new_objective for stage in made.stages] == [False, False, True]


def test_a_script_of_ones_own_is_not_judged(tmp_path: Path) -> None:
    made = plan(curriculum(tmp_path, "sft", "dpo", stages=({}, {"script": "mine.py"})))
    assert not made.stages[1].new_objective
    assert made.stages[1].handover.optimizer == "keep"


@pytest.mark.parametrize("place", ["stage", "curriculum"])
def test_keeping_the_optimizer_is_refused_where_it_is_written(tmp_path: Path, place: str) -> None:
    keep = {"handover": {"optimizer": "keep"}}
    changes = keep if place == "curriculum" else {"stages": ({}, keep)}
    with pytest.raises(CurriculumError) as error:
        plan(curriculum(tmp_path, "sft", "dpo", **changes))
    (problem,) = error.value.problems
    assert "`optimizer: keep` from sft to dpo, another objective, expected `reset`" in problem.text
    assert "leave the line out" in str(problem.hint)


def test_a_reset_that_is_stated_for_the_stage_satisfies_a_curriculum_that_keeps(tmp_path: Path) -> None:
    stages = ({}, {"handover": {"optimizer": "reset"}})
    made = plan(curriculum(tmp_path, "sft", "dpo", stages=stages, handover={"optimizer": "keep"}))
    assert made.stages[1].handover.optimizer == "reset"


def test_only_what_fits_by_name_and_shape_is_taken_over() -> None:
    saved = {"a": "float32[2]:1", "b": "float32[2, 3]:2", "lm_head": "float32[9, 3]:3"}
    now = {"a": "float32[2]:1", "b": "float32[4, 3]:9", "score": "float32[1, 3]:4"}
    taken = taken_over(saved, now)
    assert (taken.common, taken.new, taken.dropped) == (("a",), ("b", "score"), ("b", "lm_head"))
    assert str(taken) == "1 parameters taken over, 2 new (b, ...), 2 dropped (b, ...)"
