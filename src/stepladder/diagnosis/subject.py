"""What is to be diagnosed: an attempt of a run, found by its records, or any log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from stepladder import paths
from stepladder.attempts.tasks import Attempt, StageState, known_identity, stage_state
from stepladder.diagnosis.answer import Answer
from stepladder.diagnosis.diagnose import UNKNOWN, ExitFacts, diagnose
from stepladder.errors import PlanError, Problem
from stepladder.opening import open_run, stage_named
from stepladder.paths import RunDirectory
from stepladder.planning.plan import Plan, PlannedStage
from stepladder.records.events import end_of_attempt
from stepladder.records.journal import Journal

_CURRICULA = (".yaml", ".yml")
_HINT = "name a run (its output_dir or its curriculum), a stage's directory or a log"


def answer(what: str, stage: str | None = None) -> Answer:
    """Diagnose a run, a stage's directory or a log.

    Of a run it is the last attempt of the first stage that is not finished, or of `stage`. Raises PlanError when
    there is no such thing, or nothing in it that can be read; CurriculumError for a stage that the run does not have.
    """
    path = Path(what)
    if RunDirectory(path).plan.is_file() or (path.is_file() and path.suffix in _CURRICULA):
        return _of_run(*open_run(what), stage)
    if stage is not None:
        raise PlanError([Problem(what, "is no run, so it has no stages", "leave --stage out, or name the run")])
    if path.is_dir():
        logs = sorted(path.glob("stage_*_full.log"))
        if len(logs) != 1:
            raise PlanError([Problem(what, "neither a run (no plan.json) nor the directory of a stage", _HINT)])
        path = logs[0]
    return _of_log(Answer(f"log {path}", path), ExitFacts())


def _of_log(asked: Answer, facts: ExitFacts) -> Answer:
    try:
        if asked.log is None or not asked.log.is_file():
            raise PlanError([Problem(str(asked.log), "no such log", _HINT)])
        if asked.log.stat().st_size == 0:
            return replace(asked, nothing="the log is empty")
        with asked.log.open("rb") as file:
            return replace(asked, diagnosis=diagnose(file, facts, asked.attempt))
    except OSError as error:
        raise PlanError([Problem(str(asked.log), f"cannot be read: {error.strerror}", _HINT)]) from None


def _of_run(run: RunDirectory, plan: Plan, name: str | None) -> Answer:
    run_id = known_identity(run)
    stages = plan.stages if name is None else [stage_named(plan, name)]
    for stage in stages:
        state = stage_state(run, run_id, stage)
        if name is not None or not state.done:
            return _of_stage(run, stage, state)
    return Answer(f"run {plan.name}", nothing="every stage is finished")


def _of_stage(run: RunDirectory, stage: PlannedStage, state: StageState) -> Answer:
    if not state.attempts:
        return Answer(f"stage {stage.name}", nothing="it has not been started")
    last = state.attempts[-1]
    subject = f"stage {stage.name}, attempt {last.number}"
    ended = end_of_attempt(Journal(run.journal).read(), stage.name, last.number)
    if ended.get("stopped") or (last.result is not None and last.result.status == "stopped"):
        return Answer(subject, nothing="it was stopped as asked; the same command continues")
    log = paths.stage_log(stage.output_dir, stage.name)
    asked = Answer(subject, log, last.number)
    found = _of_log(asked, _facts(ended, last)) if log.is_file() else asked
    failed = not state.done and not last.alive
    return replace(found, diagnosis=UNKNOWN) if found.diagnosis is None and failed else found


def _facts(ended: dict[str, Any], attempt: Attempt) -> ExitFacts:
    """How an attempt ended, as far as the journal and its records tell."""
    why = str(ended.get("why", ""))
    return ExitFacts(
        exit_code=ended.get("exit_code"),
        memory_kills=int(_told_of_memory(ended)),
        hung=why.removeprefix("it hung: ") if ended.get("cause") == "hang" else None,
        error=attempt.error,
    )


def _told_of_memory(ended: dict[str, Any]) -> bool:
    """Whether the kernel's count decided, which was known only when the attempt ended."""
    counted = ended.get("cause") == "data_worker_killed" and bool(ended.get("memory"))
    return counted or ended.get("cause") == "memory_kill"
