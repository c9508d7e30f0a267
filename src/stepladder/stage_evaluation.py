"""What runs after each stage: the built-in evaluation or a command, its output kept and its result recorded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from stepladder import console, paths
from stepladder.attempts.tasks import end_checkpoint
from stepladder.curriculum.templates import fill
from stepladder.data.stages import evaluation_of
from stepladder.errors import StepladderError
from stepladder.launch import tied
from stepladder.launch.stopping import StopRequest
from stepladder.paths import RunDirectory
from stepladder.planning.plan import EvaluatePlan, Plan, PlannedStage
from stepladder.records import log_file
from stepladder.records.events import Event
from stepladder.records.journal import Journal
from stepladder.records.json_line import MOST_BYTES, LastObject
from stepladder.records.log_tail import log_tail
from stepladder_worker import redaction
from stepladder_worker.contract import ContractError, read_json, write_json

VERSION = 1


def evaluate_stage(
    plan: Plan, directory: RunDirectory, stage: PlannedStage, journal: Journal, request: StopRequest
) -> None:
    """Evaluate a finished stage once, as the curriculum says; a failure is said and recorded, and stops nothing.

    Raises Interrupted (or Preempted) where a stop is asked for: the next run evaluates it.
    """
    if stage.evaluate is None or evaluation(directory, stage) is not None:
        return
    if request.made:
        raise request.error(f"stopped before the evaluation of stage {stage.name}")
    argv = _argv(directory, stage, stage.evaluate)
    log = paths.stage_log(stage.output_dir, stage.name)
    seen = LastObject()
    try:
        data = evaluation_of(plan, stage)
        if data is not None:
            data.selection()
        trouble = _run(argv, log, seen)
    except StepladderError as error:
        trouble = error.message
    if trouble is not None and request.made:
        raise request.error(f"the evaluation of stage {stage.name} was stopped")
    if trouble is None and seen.value is None:
        trouble = "no line of its output is a JSON object"
    journal.append(Event.EVALUATED, stage=stage.name, argv=argv, trouble=trouble, result=seen.value)
    if trouble is not None:
        console.warn(f"evaluation of stage {stage.name}: {trouble}; its output is in {log}")
        return
    if seen.odd:
        places = ", ".join(seen.odd)
        console.warn(f"evaluation of stage {stage.name}: {places}: not finite, which JSON does not have; kept as null")
    kept = redaction.hide({"version": VERSION, "result": seen.value})
    write_json(directory.evaluation(stage.index, stage.name), kept)


def evaluation(directory: RunDirectory, stage: PlannedStage) -> dict[str, Any] | None:
    """What the evaluation of a stage printed, or None."""
    try:
        result = read_json(directory.evaluation(stage.index, stage.name)).get("result")
    except ContractError:
        return None
    return result if isinstance(result, dict) else None


def _argv(directory: RunDirectory, stage: PlannedStage, evaluate: EvaluatePlan) -> list[str]:
    values = {
        "python": sys.executable,
        "model": stage.output_dir,
        "stage_dir": stage.output_dir,
        "checkpoint": str(end_checkpoint(stage)),
        "name": stage.name,
        "index": str(stage.index),
        "predictions": str(directory.predictions(stage.index, stage.name)),
    }
    return [fill(part, **values) for part in evaluate.run]


def _run(argv: list[str], log: Path, seen: LastObject) -> str | None:
    """Run a command, its output appended to the log; says why it failed, None if it did not."""
    with log_file.opened(log) as output:
        try:
            with tied.running(argv, stdout=subprocess.PIPE, stderr=output) as process:
                if process.stdout is not None:
                    _follow(process.stdout, output, seen)
        except OSError as error:
            return f"cannot run {argv[0]}: {error.strerror}"
    if process.returncode == 0:
        return None
    code = process.returncode
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return f"{how}: {_last_words(log)}"


def _last_words(log: Path) -> str:
    """From the last `error:` on, else the last line: of a program that died in silence that of whoever wrote last."""
    lines = log_tail(log) or ["it said nothing"]
    starts = [index for index, line in enumerate(lines) if line.startswith("error:")]
    return "\n".join(lines[starts[-1] if starts else -1 :])


def _follow(stream: IO[bytes], output: IO[bytes], seen: LastObject) -> None:
    """Pass an output on as it comes; what is held of it is bounded, however much it is."""
    while piece := stream.readline(MOST_BYTES):
        output.write(piece)
        output.flush()
        seen.see(piece)
