"""The verbs on a finished run, a stage by hand, a pasted command, a fresh start."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from support import ENVIRONMENT, check_names, processes_of, start, stepladder, tiny_curriculum, wait_for

STAGES = [{"name": "one", "steps": 2}, {"name": "two", "steps": 3}]
FAST = {"gradient_accumulation_steps": 1, "dataloader_num_workers": 0}


@pytest.fixture(scope="module")
def one_done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A curriculum of two stages of which the first one is done, by hand."""
    folder = tmp_path_factory.mktemp("by_hand")
    curriculum = tiny_curriculum(folder, "small", stages=STAGES, args=FAST)
    refused = stepladder("run", curriculum, "--stage", "two", cwd=folder)
    assert refused.returncode == 2
    assert "starts from runs/small/1-one/checkpoint-2, which is not complete" in refused.stderr
    done = stepladder("run", curriculum, "--stage", "one", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def copy(one_done: Path, tmp_path: Path) -> Path:
    shutil.copytree(one_done, tmp_path / "copy", copy_function=shutil.copyfile)
    return tmp_path / "copy"


def test_a_done_run_is_a_no_op_that_says_so(healthy_chain: Path) -> None:
    done = stepladder("run", "tiny.yaml", cwd=healthy_chain)
    assert done.returncode == 0, done.stderr
    assert "tiny: one, two, three done already, nothing to run" in done.stderr
    assert "ok, 15 of 15" in done.stdout
    assert not list((healthy_chain / "runs/tiny/attempts").glob("*/2"))


def test_status_and_logs(healthy_chain: Path) -> None:
    document = json.loads(stepladder("status", "runs/tiny", "--json", cwd=healthy_chain).stdout)
    assert document["version"] == 1
    assert [(s["name"], s["state"], s["step"]) for s in document["stages"]] == [
        ("one", "done", 5),
        ("two", "done", 13),
        ("three", "done", 24),
    ]
    assert "three" in stepladder("status", "tiny.yaml", cwd=healthy_chain).stdout
    log = stepladder("logs", "runs/tiny", "--stage", "two", "--follow", cwd=healthy_chain).stdout
    assert log == (healthy_chain / "runs/tiny/2-two/stage_two_full.log").read_text()
    assert "'loss':" in log
    every = stepladder("logs", "runs/tiny", cwd=healthy_chain).stdout
    assert log in every
    assert len(every) > len(log)


def test_the_journal_tells_the_run(healthy_chain: Path) -> None:
    events = [
        json.loads(line)["event"] for line in (healthy_chain / "runs/tiny/journal.jsonl").read_text().splitlines()
    ]
    assert events[:4] == ["attempt_started", "attempt_ended", "model_ready", "stage_verified"]
    assert events.count("attempt_ended") == 3


def test_a_pasted_command_does_what_run_does(copy: Path) -> None:
    printed = stepladder("command", "small.yaml", "--stage", "two", cwd=copy)
    assert printed.returncode == 0, printed.stderr
    pasted = subprocess.run(["sh", "-c", printed.stdout], env=ENVIRONMENT, cwd="/", timeout=200, check=False)
    assert pasted.returncode == 0
    assert "'loss':" in (copy / "runs/small/2-two/stage_two_full.log").read_text()
    document = json.loads(stepladder("verify", "runs/small", "--json", cwd=copy).stdout)
    assert document["ok"]
    assert all(check_names(document, "two").values())
    again = stepladder("run", "small.yaml", cwd=copy)
    assert again.returncode == 0, again.stderr
    assert not (copy / "runs/small/attempts/2-two/2").exists()


def test_a_changed_past_is_refused(copy: Path) -> None:
    tiny_curriculum(copy, "small", stages=STAGES, args={**FAST, "weight_decay": 0.5})
    refused = stepladder("run", "small.yaml", cwd=copy)
    assert refused.returncode == 2
    assert "stage one: is finished; its `args.weight_decay` was 0.01, now 0.5" in refused.stderr
    assert "--fresh" in refused.stderr


def test_fresh_sets_aside_and_deletes_nothing(copy: Path) -> None:
    before = (copy / "runs/small/1-one/model.safetensors").read_bytes()
    done = stepladder("run", "small.yaml", "--stage", "one", "--fresh", cwd=copy)
    assert done.returncode == 0, done.stderr
    assert (copy / "runs/small/attempts/1-one/1/result.json").exists()
    aside = list((copy / "runs/small").glob("1-one.before-*"))
    assert len(aside) == 1
    assert (aside[0] / "model.safetensors").read_bytes() == before
    assert (copy / "runs/small/1-one/model.safetensors").read_bytes() == before


def test_a_stage_set_aside_and_killed_goes_on(copy: Path) -> None:
    """Seals of the records that were set aside do not rule the new ones."""
    engine = start(copy, "run", "small.yaml", "--stage", "one", "--fresh")
    wait_for(copy / "runs/small/attempts/1-one/1/result.json")
    engine.kill()
    while processes_of(copy):
        time.sleep(0.1)
    done = stepladder("run", "small.yaml", "--stage", "one", cwd=copy)
    assert done.returncode == 0, done.stderr


def test_a_run_can_be_looked_at_from_anywhere(healthy_chain: Path, tmp_path: Path) -> None:
    run = healthy_chain / "runs/tiny"
    assert stepladder("verify", run, cwd=tmp_path).returncode == 0
    assert stepladder("status", ".", cwd=run).stdout.count("done") == 3
    shutil.copytree(run, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    moved = stepladder("verify", "elsewhere", cwd=tmp_path)
    assert moved.returncode == 2
    assert "was made as runs/tiny" in moved.stderr


def test_a_finished_stage_is_not_trained_again_under_later_ones(healthy_chain: Path, tmp_path: Path) -> None:
    shutil.copytree(healthy_chain, tmp_path / "copy", copy_function=shutil.copyfile)
    (tmp_path / "copy/runs/tiny/2-two/checkpoint-13/stepladder.json").unlink()
    refused = stepladder("run", "tiny.yaml", cwd=tmp_path / "copy")
    assert refused.returncode == 2
    assert "stage two: is not complete, though stage three continued from it" in refused.stderr


def test_a_closed_console_does_not_end_the_training(copy: Path) -> None:
    engine = start(copy, "run", "small.yaml")
    assert engine.stderr is not None
    engine.stderr.close()
    assert engine.wait(120) == 0
    assert (copy / "runs/small/2-two/checkpoint-5/stepladder.json").exists()


def test_a_directory_of_another_training_is_refused(copy: Path) -> None:
    (copy / "runs/small/2-two").mkdir()
    (copy / "runs/small/2-two/config.json").write_text("{}")
    refused = stepladder("run", "small.yaml", cwd=copy)
    assert refused.returncode == 2
    assert "holds config.json of another training" in refused.stderr


def test_a_checkpoint_without_optimizer_state_is_refused(copy: Path) -> None:
    (copy / "runs/small/1-one/checkpoint-2/optimizer.pt").unlink()
    refused = stepladder("run", "small.yaml", "--stage", "two", cwd=copy)
    assert refused.returncode == 2
    assert "optimizer" in refused.stderr
    assert refused.stderr.count("hint:") == 1
    assert not (copy / "runs/small/attempts/2-two").exists()
