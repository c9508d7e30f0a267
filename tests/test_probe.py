"""`stepladder probe`: what a script does at a boundary by itself and with Stepladder; nothing of a person changes."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import support
from stepladder.curriculum.parse import load
from stepladder.probe import derived
from support import ENVIRONMENT, ROOT, SCRIPTS, start, stepladder, tiny_curriculum

#: What TRL's SFT script trains on: the example's own `prepare` commands.
TEXT = [
    ["examples/text_data.py", "runs/text/data"],
    ["-m", "stepladder.trainer.tiny", "runs/text/model", "--kind", "llama", "--text", "runs/text/data/sample.txt"],
]


@pytest.fixture
def scratch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where probes make their scratch directories: a folder of the test's own."""
    folder = tmp_path_factory.mktemp("scratch")
    monkeypatch.setitem(support.ENVIRONMENT, "TMPDIR", str(folder))
    return folder


@pytest.fixture
def curriculum(tmp_path: Path) -> Callable[..., Path]:
    """Writes a curriculum whose script lies among the person's own files."""
    for script in SCRIPTS.glob("*.py"):
        target = tmp_path / "scripts" / script.name
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(script, target)

    def write(script: str, **changes: Any) -> Path:
        args = {"dataloader_num_workers": 0, **changes.pop("args", {})}
        return tiny_curriculum(tmp_path, "mine", str(tmp_path / "scripts" / script), args=args, **changes)

    return write


def probes(scratch: Path) -> list[Path]:
    """Scratch directories that probes left; torchrun's own temporary ones lie there too."""
    return list(scratch.glob("stepladder-probe-*"))


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def answers(file: str | Path, folder: Path, code: int, *options: str) -> tuple[dict[str, Any], str]:
    """(the document of `probe --json` with its rows by name, what went to stderr)."""
    before = contents(folder)
    done = stepladder("probe", file, "--json", *options, cwd=folder)
    assert done.returncode == code, done.stderr
    assert contents(folder) == before, "a probe changed the person's files"
    document = json.loads(done.stdout)
    assert (document["version"], document["kind"], document["ok"]) == (1, "probe", code == 0)
    document["rows"] = {row["name"]: row for row in document["rows"]}
    return document, done.stderr


def by_itself(document: dict[str, Any], word: str) -> set[str]:
    return {name for name, row in document["rows"].items() if row["by_itself"]["word"] == word}


def with_stepladder(document: dict[str, Any], word: str) -> set[str]:
    return {name for name, row in document["rows"].items() if row["with_stepladder"]["word"] == word}


@pytest.mark.full
def test_a_script_that_resumes_by_itself(tmp_path: Path, scratch: Path, curriculum: Callable[..., Path]) -> None:
    document, said = answers(curriculum("tiny_train.py"), tmp_path, 0)
    assert by_itself(document, "no") == {
        "honours learning rate",
        "honours weight decay and the like",
        "starts fresh data at sample 0",
    }
    assert document["rows"]["resumes optimizer"]["by_itself"] == {"word": "yes", "figure": "step counters 2 -> 5"}
    assert with_stepladder(document, "not seen") == {"drops the old best metric"}
    assert with_stepladder(document, "no") == set()
    assert [change["name"] for change in document["changes"]] == [
        "learning_rate",
        "weight_decay",
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
    ]
    assert "the script by itself" in said
    assert probes(scratch) == []


@pytest.mark.full  # test_own_resume.py runs the same script with the hooks and without
def test_a_script_that_computes_its_own_resume_flag(
    tmp_path: Path, scratch: Path, curriculum: Callable[..., Path]
) -> None:
    document, _ = answers(curriculum("own_resume.py"), tmp_path, 0)
    assert by_itself(document, "no") == {
        "goes on at the next step",
        "resumes optimizer",
        "resumes random state",
        "honours learning rate",
    }
    rows = document["rows"]
    assert rows["ends at max_steps"]["by_itself"]["word"] == "yes", "it reaches the step, from zero"
    assert rows["goes on at the next step"]["by_itself"]["figure"] == "1-5; expected 3-5"
    assert rows["starts fresh data at sample 0"]["by_itself"]["word"] == "yes"
    assert rows["resumes optimizer"]["with_stepladder"]["figure"] == "step counters 2 -> 5"
    assert with_stepladder(document, "no") == set()


def test_trls_sft_script_on_the_examples_arguments(tmp_path: Path, scratch: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    refused = stepladder("probe", "examples/text_trl.yaml", cwd=tmp_path)
    assert refused.returncode == 2
    assert "examples/text_trl.yaml:8:5: nothing at runs/text/data, which this command makes" in refused.stderr
    for command in TEXT:
        subprocess.run([sys.executable, *command], cwd=tmp_path, env=ENVIRONMENT, check=True, capture_output=True)
    decay = ("--set", "args.weight_decay=0.1", "--stage", "medium")
    document, _ = answers("examples/text_trl.yaml", tmp_path, 0, *decay)
    assert document["stage"] == "medium"
    assert by_itself(document, "no") == {
        "honours learning rate",
        "honours weight decay and the like",
        "starts fresh data at sample 0",
    }
    assert with_stepladder(document, "no") == set()


@pytest.mark.full
def test_without_a_checkpoint_at_the_end_nothing_continues(
    tmp_path: Path, scratch: Path, curriculum: Callable[..., Path]
) -> None:
    file = curriculum("tiny_train.py", args={"save_strategy": "no"})
    document, said = answers(file, tmp_path, 0, "--keep")
    assert by_itself(document, "no") == {"complete checkpoint at the end"}
    assert len(by_itself(document, "not seen")) == len(document["rows"]) - 2
    assert with_stepladder(document, "no") == set()
    (remark,) = document["remarks"]
    assert remark.startswith("by itself: the first stage left no complete checkpoint at its end")
    (kept,) = probes(scratch)
    assert f"what the probe wrote is in {kept}" in said
    assert (kept / "with-stepladder/run/2-second/checkpoint-5/stepladder.json").is_file()
    assert not (kept / "by-itself/run/1-first/checkpoint-2").exists()


@pytest.mark.full
def test_a_script_that_breaks_the_contract_with_the_hooks_too(
    tmp_path: Path, scratch: Path, curriculum: Callable[..., Path]
) -> None:
    done = stepladder("probe", curriculum("odd.py", args={"odd": "reinit"}), cwd=tmp_path)
    assert done.returncode == 1
    weights = next(line for line in done.stdout.splitlines() if "resumes weights" in line)
    assert "no: 1 of 21 differ" in weights
    assert "not seen: second stage failed" in weights
    assert "with Stepladder: stage second failed: weights of 1 parameters differ after loading" in done.stdout
    assert done.stdout.endswith("with Stepladder the chain DOES NOT HOLD\n")
    assert "look at what the script does before train()" in done.stderr


@pytest.mark.parametrize(
    ("trouble", "cause", "last"),
    [
        ({"trouble": "exit0"}, "its script ended with exit code 0 without training", "  | models are ready"),
        ({"trouble": "raise", "trouble_step": 1}, "RuntimeError: planted trouble", "RuntimeError: planted trouble"),
    ],
    ids=["exit0", "raise"],
)
def test_a_script_that_does_not_train(
    tmp_path: Path, scratch: Path, curriculum: Callable[..., Path], trouble: dict[str, Any], cause: str, last: str
) -> None:
    done = stepladder("probe", curriculum("troubled.py", args=trouble), cwd=tmp_path)
    assert done.returncode == 3
    assert done.stdout == ""
    assert cause in done.stderr
    assert last in done.stderr
    assert done.stderr.count("hint:") == 1
    assert "--keep keeps the log" in done.stderr
    assert probes(scratch) == []


def test_ctrl_c_leaves_nothing(tmp_path: Path, scratch: Path, curriculum: Callable[..., Path]) -> None:
    file = curriculum("troubled.py", args={"trouble": "hang", "trouble_step": 1})
    engine = start(tmp_path, "probe", file)
    deadline = time.monotonic() + 120
    while not list(scratch.glob("*/by-itself/run/attempts/1-first/1/result.json")):
        assert time.monotonic() < deadline
        assert engine.poll() is None
        time.sleep(0.1)
    started = psutil.Process(engine.pid).children(recursive=True)
    engine.send_signal(signal.SIGINT)
    _, said = engine.communicate(timeout=60)
    assert engine.returncode == 130
    assert "the probe was stopped" in said
    assert probes(scratch) == []
    assert started
    assert not [process for process in started if process.is_running()]


def test_an_unknown_stage_is_bad_input(tmp_path: Path, curriculum: Callable[..., Path]) -> None:
    done = stepladder("probe", curriculum("tiny_train.py"), "--stage", "twp", cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean `two`?" in done.stderr


@pytest.mark.parametrize(
    ("args", "changed"),
    [
        ({}, {}),
        ({"weight_decay": 0.0}, {"weight_decay": 0.01}),
        ({"per_device_train_batch_size": 8}, {"per_device_train_batch_size": 4}),
        ({"gradient_accumulation_steps": 4}, {"gradient_accumulation_steps": 2}),
        ({"gradient_accumulation_steps": 1}, {"gradient_accumulation_steps": 2}),
        (
            {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
            {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8},
        ),
        ({"per_device_train_batch_size": 1}, {}),
        (
            {"gradient_accumulation_steps": 4, "weight_decay": 0.1, "deepspeed": {"train_batch_size": 8}},
            {"weight_decay": 0.05},
        ),
        (
            {"weight_decay": 0.1, "deepspeed": {"optimizer": {"params": {"weight_decay": 0.1, "lr": "auto"}}}},
            {},
        ),
    ],
)
def test_what_the_second_stage_changes(tmp_path: Path, args: dict[str, Any], changed: dict[str, Any]) -> None:
    found = changes(tmp_path, args={"learning_rate": 2.0, **args})
    assert found == {"learning_rate": 1.0, **changed}


def test_a_scripts_own_schedule_keeps_its_rate(tmp_path: Path) -> None:
    assert changes(tmp_path, args={"learning_rate": 2.0}, schedule="script") == {}


def changes(folder: Path, **fields: Any) -> dict[str, Any]:
    """What a probe changes in the second stage of a curriculum with one stage."""
    data = {"name": "n", "model_name_or_path": "m", "output_dir": "o", "stages": [{"name": "s", "steps": 9}], **fields}
    (folder / "c.yaml").write_text(json.dumps(data))
    curriculum = load(str(folder / "c.yaml")).curriculum
    return {change.name: change.now for change in derived.changes(curriculum, curriculum.stages[0])}


def test_a_probe_pushes_and_reports_nothing(tmp_path: Path) -> None:
    fields = {"push_to_hub": True, "report_to": "wandb", "logging_dir": "logs", "learning_rate": 1.0}
    data = {"name": "n", "model_name_or_path": "m", "output_dir": "o", "stage_dir": "s/{name}", "args": fields}
    (tmp_path / "c.yaml").write_text(json.dumps({**data, "stages": [{"name": "s", "steps": 9}]}))
    curriculum = load(str(tmp_path / "c.yaml")).curriculum
    tiny = derived.derive(curriculum, curriculum.stages[0], tmp_path / "scratch", hook=False)
    assert tiny.args == {"push_to_hub": False, "report_to": "none", "learning_rate": 1.0}
    assert (tiny.output_dir, tiny.stage_dir, tiny.hook) == (str(tmp_path / "scratch"), None, False)
    assert [(stage.name, stage.steps) for stage in tiny.stages] == [("first", 2), ("second", 3)]
