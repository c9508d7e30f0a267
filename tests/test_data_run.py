"""Stages with `data:` run: selected before anything trains, trained in the planned order, told by the ledger."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pointing_data import write_pointing_data
from stepladder.curriculum.parse import load
from stepladder.data.ready import make_ready
from stepladder.data.selection import read_selection
from stepladder.errors import PlanError
from stepladder.preflight.machine import checked_plan
from support import stepladder

ARGS = {
    "use_cpu": True,
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 4,
    "gradient_checkpointing": False,
    "max_tiles": 1,
    "logging_steps": 1,
    "report_to": "none",
    "disable_tqdm": True,
}
ONE_IN_THREE = "CAST(substr(id, 2) AS int) % 3 = 0"


def curriculum(folder: Path, model: Path, stages: list[dict[str, Any]], **data: Any) -> Path:
    """A curriculum over the 12 pointing samples of tests/pointing_data.py, in a folder of its own."""
    if not (folder / "pairs").exists():
        (folder / "pairs").mkdir()
        write_pointing_data(folder / "pairs")
    path = folder / "c.yaml"
    described = {"cache": "cache", "datasets": {"pairs": {"path": "pairs/pairs.jsonl"}}, **data}
    text = {"name": "c", "model_name_or_path": str(model), "output_dir": "runs/c", "args": ARGS, "data": described}
    path.write_text(json.dumps({**text, "stages": stages}), "utf-8")
    return path


def ledger(folder: Path, *options: str) -> list[dict[str, Any]]:
    done = stepladder("data", "ledger", "runs/c", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def evidence(folder: Path, stage: str) -> dict[str, Any]:
    path = folder / f"runs/c/attempts/{stage}/1/result.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))["evidence"]["data"]
    return found


def test_a_chain_on_one_mixture_continues_and_the_ledger_tells_what_was_trained(
    vision_model: Path, tmp_path: Path
) -> None:
    """4 of 12 samples, 4 a step: every step is an epoch, but the stage that takes 2 a step ends within one."""
    part = [{"dataset": "pairs", "where": ONE_IN_THREE}]
    stages = [
        {"name": "a", "steps": 1, "data": "third"},
        {
            "name": "b",
            "steps": 3,
            "data": part,
            "handover": {"data": "continue"},
            "args": {"gradient_accumulation_steps": 2},
        },
        {"name": "c", "steps": 1, "data": "pairs*0.5 + third*2"},
    ]
    path = curriculum(tmp_path, vision_model, stages, mixtures={"third": part})
    done = stepladder("run", path.name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr

    told = ledger(tmp_path)
    assert [line["step"] for line in told] == [1] * 4 + [2, 2, 3, 3, 4, 4] + [5] * 4
    assert [line["position"] for line in told] == [*range(10), *range(4)]
    thirds = {f"s{number}" for number in range(0, 12, 3)}
    assert {line["id"] for line in told[:4]} == {line["id"] for line in told[4:8]} == thirds
    for stage in ("1-a", "2-b", "3-c"):
        mine = [line["row"] for line in told if line["stage"] == stage[2:]]
        drawn = [row for batch in evidence(tmp_path, stage)["first_batches"] for row in batch["samples"]]
        assert mine[:8] == drawn[: len(mine)]
    assert ledger(tmp_path, "--step", "3") == told[6:8]
    for wrong in (("--step", "99"), ("--sample", "nope")):
        assert stepladder("data", "ledger", "runs/c", *wrong, cwd=tmp_path).returncode == 2
    assert ledger(tmp_path, "--sample", "s0") == [line for line in told if line["id"] == "s0"]

    selection = read_selection(tmp_path / "runs/c/data/3-c")
    assert selection.length == 6 + 8
    assert Counter(selection.at(position)[0].rows_path.name for position in range(14)) == {
        "part_0.npy": 6,
        "part_1.npy": 8,
    }
    again = stepladder("run", path.name, cwd=tmp_path)
    assert again.returncode == 0
    assert "data of stage" not in again.stderr

    # The order needs no store: whoever empties the cache loses no proof.
    (tmp_path / "cache").rename(tmp_path / "gone")
    assert stepladder("verify", "runs/c", cwd=tmp_path).returncode == 0
    (tmp_path / "gone").rename(tmp_path / "cache")

    # What was trained is not what the selection says any more: the ledger would lie, so `verify` fails by name.
    rows = np.load(tmp_path / "runs/c/data/2-b/part_0.npy")
    np.save(tmp_path / "runs/c/data/2-b/part_0.npy", np.roll(rows, 1))
    fails = json.loads(stepladder("verify", "runs/c", "--json", cwd=tmp_path).stdout)["stages"]
    assert [check["name"] for stage in fails for check in stage["checks"] if not check["ok"]] == ["data_position"]


def test_a_mistake_in_the_last_stage_shows_before_the_first_one_trains(vision_model: Path, tmp_path: Path) -> None:
    stages = [{"name": "a", "steps": 1, "data": "pairs"}, {"name": "b", "steps": 1, "data": "hard"}]
    mixtures = {"hard": [{"dataset": "pairs", "where": "meta.is_negg"}]}
    path = curriculum(tmp_path, vision_model, stages, mixtures=mixtures)
    done = stepladder("run", path.name, cwd=tmp_path)
    assert done.returncode == 2
    assert "c.yaml:1:" in done.stderr
    assert "unknown column `meta.is_negg`" in done.stderr
    assert done.stderr.count("hint: ") == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs/c/1-a").exists()


def test_a_stage_that_has_begun_goes_on_with_the_data_it_began_with(
    vision_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative controls: the same call with the file put back, and for a stage that has not begun."""
    path = curriculum(tmp_path, vision_model, [{"name": "a", "steps": 2, "data": "pairs"}])
    monkeypatch.chdir(tmp_path)
    plan = checked_plan(load(path.name, ()), look_at_files=False)
    (stage,) = plan.stages
    make_ready(plan, stage, begun=False, journal=None)
    selected = read_selection(tmp_path / "runs/c/data/1-a").fingerprint
    data = tmp_path / "pairs/pairs.jsonl"
    before = data.read_text("utf-8")
    data.write_text(before.replace("s11", "s99"), "utf-8")
    with pytest.raises(PlanError, match="are not those it began with"):
        make_ready(plan, stage, begun=True, journal=None)
    assert read_selection(tmp_path / "runs/c/data/1-a").fingerprint == selected
    data.write_text(before, "utf-8")
    make_ready(plan, stage, begun=True, journal=None)
    assert read_selection(tmp_path / "runs/c/data/1-a").fingerprint == selected
    data.write_text(before.replace("s11", "s99"), "utf-8")
    make_ready(plan, stage, begun=False, journal=None)
    assert read_selection(tmp_path / "runs/c/data/1-a").fingerprint != selected


def test_another_script_gets_exactly_the_stages_samples(vision_model: Path, tmp_path: Path) -> None:
    """A script of somebody else, which copies what it was given, and trains nothing."""
    script = tmp_path / "own.py"
    script.write_text("import shutil, sys\nshutil.copy(sys.argv[sys.argv.index('--file') + 1], 'seen.json')\n", "utf-8")
    stages = [{"name": "a", "steps": 1, "data": [{"dataset": "pairs", "where": ONE_IN_THREE, "repeat": 2}]}]
    path = curriculum(tmp_path, vision_model, stages)
    text = json.loads(path.read_text("utf-8")) | {"script": "own.py"}
    text["args"] = {**ARGS, "file": "{data}"}
    path.write_text(json.dumps(text), "utf-8")
    stepladder("run", path.name, cwd=tmp_path)
    seen = json.loads((tmp_path / "seen.json").read_text("utf-8"))
    assert Counter(sample["id"].split("@")[0] for sample in seen) == {f"s{number}": 2 for number in range(0, 12, 3)}
    assert all(Path(name).is_absolute() and Path(name).is_file() for sample in seen for name in sample["image"])
