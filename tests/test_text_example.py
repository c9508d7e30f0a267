"""TRL's own SFT script, unedited, on real text: killed in stage 2, it ends in the bytes of the unkilled run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from support import ROOT, processes_of, start, stepladder, wait_for_step

FEW = [
    "--set",
    "stages.0.steps=4",
    "--set",
    "stages.1.steps=60",
    "--set",
    "stages.2.steps=4",
    "--set",
    "args.save_steps=5",
]
WEIGHTS = "runs/text/run/3-long/model.safetensors"


def kill_in_stage_two(folder: Path) -> None:
    """Start the run, and SIGKILL the engine and every training process after a checkpoint of stage 2."""
    engine = start(folder, "run", "examples/text_trl.yaml", *FEW)
    wait_for_step(folder / "runs/text/run", "2-medium", 12)
    victims = processes_of(folder)
    assert victims
    for victim in victims:
        victim.kill()
    engine.kill()
    engine.wait(30)


def test_killed_and_unkilled_end_in_the_same_bytes(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        shutil.copytree(ROOT / "examples", folder / "examples")
    done = stepladder("run", "examples/text_trl.yaml", *FEW, cwd=whole)
    assert done.returncode == 0, done.stderr
    shutil.copytree(whole / "runs/text/data", killed / "runs/text/data")
    shutil.copytree(whole / "runs/text/model", killed / "runs/text/model")

    kill_in_stage_two(killed)
    status = json.loads(stepladder("status", "runs/text/run", "--json", cwd=killed).stdout)
    assert [stage["state"] for stage in status["stages"]] == ["done", "interrupted", "waiting"]
    assert 4 < status["stages"][1]["step"] < 64

    again = stepladder("run", "examples/text_trl.yaml", *FEW, cwd=killed)
    assert again.returncode == 0, again.stderr
    assert "attempt 2" in again.stderr
    assert (killed / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    evidence = json.loads((killed / "runs/text/run/attempts/2-medium/2/result.json").read_text())["evidence"]
    assert evidence["start"]["global_step"] > 4, "it went on in the middle of stage 2"
