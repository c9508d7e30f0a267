"""The commands beside the training: `prepare` before the first stage, `evaluate` after each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from stepladder import console, paths
from stepladder.checks import fill
from stepladder.errors import RunError
from stepladder.journal import Journal
from stepladder.log_tail import log_tail
from stepladder.paths import RunDirectory
from stepladder.plan import Plan, PlannedStage
from stepladder.tasks import end_checkpoint
from stepladder_worker.contract import write_json

EVALUATION_VERSION = 1


def prepare(plan: Plan, directory: RunDirectory, journal: Journal) -> None:
    """Run the commands whose `creates` does not exist yet. Raises RunError when one fails or makes nothing."""
    for index, command in enumerate(plan.prepare, start=1):
        target = Path(command.creates)
        if target.exists():
            continue
        log = directory.log_of_prepare(index)
        argv = [fill(part, python=sys.executable) for part in command.run]
        console.note(f"preparing {target}: {' '.join(command.run)}")
        with log.open("wb") as output:
            done = _run(argv, stdout=output, stderr=subprocess.STDOUT)
        journal.append("prepared", creates=str(target), argv=argv, exit_code=done)
        if done != 0 or not target.exists():
            what = f"ended with exit code {done}" if done else f"did not make {target}"
            tail = "\n".join(f"  | {line}" for line in log_tail(log))
            message = f"prepare command {index} {what}: {' '.join(argv)}\n{tail}"
            raise RunError(message, hint=f"its whole output is in {log}")


def evaluate_stage(plan: Plan, directory: RunDirectory, stage: PlannedStage, journal: Journal) -> None:
    """Run the `evaluate` command on a finished stage once; a failure is said and recorded, and stops nothing."""
    if plan.evaluate is None or evaluation(directory, stage) is not None:
        return
    values = {
        "python": sys.executable,
        "model": stage.output_dir,
        "stage_dir": stage.output_dir,
        "checkpoint": str(end_checkpoint(stage)),
        "name": stage.name,
        "index": str(stage.index),
    }
    argv = [fill(part, **values) for part in plan.evaluate.run]
    log = paths.stage_log(stage.output_dir, stage.name)
    try:
        with log.open("ab") as output:
            done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=output, stdin=subprocess.DEVNULL, check=False)
            output.write(done.stdout)
    except OSError as error:
        console.warn(f"evaluation of stage {stage.name} cannot run {argv[0]}: {error.strerror}")
        return
    found = _last_json(done.stdout.decode("utf-8", errors="replace"))
    journal.append("evaluated", stage=stage.name, argv=argv, exit_code=done.returncode, result=found)
    if done.returncode != 0 or found is None:
        console.warn(f"evaluation of stage {stage.name} gave no result (exit {done.returncode}): {log}")
        return
    write_json(directory.evaluation(stage.index, stage.name), {"version": EVALUATION_VERSION, "result": found})


def evaluation(directory: RunDirectory, stage: PlannedStage) -> dict[str, Any] | None:
    """What the evaluation of a stage printed, or None."""
    path = directory.evaluation(stage.index, stage.name)
    try:
        result = json.loads(path.read_text("utf-8"))["result"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return result if isinstance(result, dict) else None


def _run(argv: list[str], **streams: Any) -> int:
    try:
        return subprocess.run(argv, stdin=subprocess.DEVNULL, env=os.environ, check=False, **streams).returncode
    except OSError as error:
        raise RunError(f"cannot run {argv[0]}: {error.strerror}", hint="check the command in the curriculum") from None


def _last_json(text: str) -> dict[str, Any] | None:
    for line in reversed(text.splitlines()):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            return value
    return None
