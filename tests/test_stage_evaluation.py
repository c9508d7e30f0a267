"""`evaluate:` of a curriculum: a command's last JSON line is recorded, the built-in evaluation runs, nothing it does
ends a run."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from pointing_data import write_pointing_data
from stepladder.curriculum.parse import load
from stepladder.preflight.machine import checked_plan
from stepladder.records.json_line import MOST_BYTES, LastObject
from support import start, stepladder, tiny_curriculum, wait_for


def seen(*pieces: bytes) -> LastObject:
    found = LastObject()
    for piece in pieces:
        found.see(piece)
    return found


def test_the_last_object_counts() -> None:
    assert seen(b'{"a": 1}\n', b'{"a": 2}\r\n', b"done\n", b"[3]\n", b'{"a": \n', b"{'a': 4}\n").value == {"a": 2}
    assert seen(b'  {"a": 1}').value == {"a": 1}  # the last line without its end
    assert seen(b"accuracy 0.5\n", b"\xff{\n", b"{" * 100_000 + b"\n").value is None
    assert seen(b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"\n").value is None


def test_an_object_in_the_middle_of_a_long_line_is_none() -> None:
    line = b"x" * MOST_BYTES
    assert seen(line, b'{"a": 1}\n').value is None
    assert seen(line, b"\n", b'{"a": 1}\n').value == {"a": 1}


def test_numbers_that_json_does_not_have_are_null_and_named() -> None:
    found = seen(b'{"metrics": {"loss": NaN, "best": [1, -Infinity]}, "huge": 1e999, "n": 4}\n')
    assert found.value == {"metrics": {"loss": None, "best": [1, None]}, "huge": None, "n": 4}
    assert found.odd == ["metrics.loss", "metrics.best.1", "huge"]


def python(code: str) -> dict[str, Any]:
    return {"run": ["{python}", "-c", code, "{name}", "{predictions}"]}


SAYS_WHO = "import json, sys; open(sys.argv[2], 'w').write('kept'); print(json.dumps({'stage': sys.argv[1]}))"
NOT_FINITE = 'print(\'{"metrics": {"score": NaN, "n": 1}}\')'
#: 64 MB in one line, then the result: the memory of the engine is bounded, its log is not.
HUGE = "import sys\nfor _ in range(64): sys.stdout.write('{' * 2**20)\nprint(); print('{\"metrics\": {\"score\": 1}}')"
DIES = 'import os; print(\'{"metrics": {"score": 1}}\', flush=True); os.kill(os.getpid(), 9)'


def evaluated(folder: Path) -> dict[str, Any]:
    found = (folder / "runs/tiny/attempts").glob("*/evaluation.json")
    return {path.parent.name: json.loads(path.read_text())["result"] for path in found}


def test_no_command_ends_a_run(healthy_chain: Path, tmp_path: Path) -> None:
    """Finished stages are evaluated where they have no result yet, so nothing is trained here."""
    shutil.copytree(healthy_chain, tmp_path, dirs_exist_ok=True)

    def run(**evaluate: dict[str, Any] | None) -> str:
        budgets = {"one": 5, "two": 8, "three": 11}
        stages = [{"name": name, "steps": steps, "evaluate": evaluate[name]} for name, steps in budgets.items()]
        curriculum = tiny_curriculum(tmp_path, handover={"data": "continue"}, stages=stages)
        done = stepladder("run", curriculum, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stderr

    said = run(one=python(SAYS_WHO), two=python(DIES), three={"run": ["./no_such_program"]})
    assert "evaluation of stage two: was ended by signal 9" in said
    assert "evaluation of stage three: cannot run ./no_such_program: No such file or directory" in said
    assert evaluated(tmp_path) == {"1-one": {"stage": "one"}}
    assert (tmp_path / "runs/tiny/attempts/1-one/evaluation_predictions.jsonl").read_text() == "kept"

    said = run(one=python(DIES), two=python(NOT_FINITE), three=None)  # what has a result is not evaluated again
    assert "evaluation of stage one" not in said
    assert "evaluation of stage two: metrics.score: not finite" in said
    assert evaluated(tmp_path) == {"1-one": {"stage": "one"}, "2-two": {"metrics": {"score": None, "n": 1}}}

    assert run(one=None, two=None, three=python(HUGE)).count("evaluation of") == 0
    assert evaluated(tmp_path)["3-three"] == {"metrics": {"score": 1}}
    events = [json.loads(line) for line in (tmp_path / "runs/tiny/journal.jsonl").read_text().splitlines()]
    recorded = [event["stage"] for event in events if event["event"] == "evaluated"]
    assert recorded == ["one", "two", "three", "two", "three"]
    assert stepladder("verify", "runs/tiny", cwd=tmp_path).returncode == 0


def test_a_stop_is_no_failure_of_the_evaluation(healthy_chain: Path, tmp_path: Path) -> None:
    shutil.copytree(healthy_chain, tmp_path, dirs_exist_ok=True)
    held_up = python("import pathlib, time; pathlib.Path('begun').touch(); time.sleep(600)")
    stages = [{"name": "one", "steps": 5}, {"name": "two", "steps": 8}, {"name": "three", "steps": 11}]
    stages[2]["evaluate"] = held_up
    curriculum = tiny_curriculum(tmp_path, handover={"data": "continue"}, stages=stages)
    running = start(tmp_path, "run", curriculum)
    wait_for(tmp_path / "begun")
    running.terminate()
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 75, errors
    assert "the evaluation of stage three was stopped" in errors
    assert "evaluated" not in (tmp_path / "runs/tiny/journal.jsonl").read_text()


@pytest.mark.parametrize("data", ["nowhere.jsonl", "held_ouut"])
def test_missing_held_out_samples_are_noticed_before_training(tmp_path: Path, data: str) -> None:
    write_pointing_data(tmp_path, count=2)
    datasets = {"datasets": {"held_out": {"path": "pairs.jsonl"}}}
    curriculum = tiny_curriculum(tmp_path, evaluate={"data": data}, data=datasets)
    done = stepladder("plan", curriculum, cwd=tmp_path)
    assert done.returncode == 2
    assert f"`data`: nothing at {data}, expected held-out samples" in done.stderr
    assert ("did you mean `held_out`?" in done.stderr) == (data != "nowhere.jsonl")


def test_a_stage_has_the_curriculums_evaluation_its_own_or_none(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    stages = [
        {"name": "one", "steps": 1},
        {"name": "two", "steps": 1, "evaluate": {"data": "a.jsonl", "batch_size": 2}},
        {"name": "three", "steps": 1, "evaluate": None},
    ]
    path = tiny_curriculum(tmp_path, stages=stages, evaluate={"data": "a.jsonl", "limit": 4})
    plan = checked_plan(load(str(path), ()), look_at_files=False)
    runs = [None if stage.evaluate is None else " ".join(stage.evaluate.run) for stage in plan.stages]
    assert runs == [
        "{python} -m stepladder.evaluate {model} a.jsonl --limit 4 --predictions {predictions}",
        "{python} -m stepladder.evaluate {model} a.jsonl --batch-size 2 --predictions {predictions}",
        None,
    ]
    assert type(plan).from_json(plan.to_json()) == plan


def test_the_built_in_evaluation_runs_after_a_stage(vision_model: Path, tmp_path: Path) -> None:
    write_pointing_data(tmp_path / "train", count=8)
    held_out = write_pointing_data(tmp_path / "eval", count=12)
    curriculum = {
        "name": "built-in",
        "model_name_or_path": str(vision_model),
        "output_dir": "runs/b",
        "args": {
            "use_cpu": True,
            "learning_rate": 1e-3,
            "per_device_train_batch_size": 1,
            "report_to": "none",
            "max_tiles": 1,
        },
        "data": {
            "cache": "cache",
            "datasets": {
                "pairs": {"path": "train/pairs.jsonl"},
                "held_out": {"path": "eval/pairs.jsonl"},
                "broken": {"path": "broken.jsonl"},
            },
        },
        "evaluate": {"data": "held_out", "limit": 6, "batch_size": 3},
        "stages": [{"name": "one", "steps": 1, "data": "pairs"}],
    }
    (tmp_path / "broken.jsonl").write_text('{"id": \n', "utf-8")
    path = tmp_path / "b.yaml"
    path.write_text(json.dumps(curriculum), "utf-8")
    done = stepladder("run", path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    kept = tmp_path / "runs/b/attempts/1-one"
    result = json.loads((kept / "evaluation.json").read_text("utf-8"))["result"]
    assert (result["n"], list(result["baselines"])) == (6, ["NOT_VISIBLE", "mean point", "random point"])
    lines = [json.loads(line) for line in (kept / "evaluation_predictions.jsonl").read_text("utf-8").splitlines()]
    ids = {json.loads(line)["id"] for line in held_out.read_text("utf-8").splitlines()}
    assert len(lines) == 6
    assert {line["id"] for line in lines} < ids
    assert re.search(r"right, of 3 tierA +0 +1", done.stdout), done.stdout
    assert sys.executable in (tmp_path / "runs/b/journal.jsonl").read_text("utf-8")

    (kept / "evaluation.json").unlink()
    done = stepladder("run", path, "--set=evaluate.data=broken", cwd=tmp_path)
    assert done.returncode == 0  # the stage is trained, whatever its evaluation comes to
    assert "evaluation of stage one: " in done.stderr
    assert "broken.jsonl:1" in done.stderr
