"""One launch of a stage: its processes, its log, its records, and why it did not reach the stage's end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stepladder import console, paths
from stepladder.attempts.supervision import Supervisor
from stepladder.attempts.tasks import Attempt, StageState, end_checkpoint, stage_state, write_task
from stepladder.diagnosis.diagnose import Diagnosis, of_attempt
from stepladder.errors import Interrupted, StageFailed
from stepladder.launch.local import Outcome, launch, variables
from stepladder.launch.memory import memory_kills
from stepladder.launch.stopping import StopRequest
from stepladder.paths import RunDirectory
from stepladder.planning.plan import Plan, PlannedStage
from stepladder.records import log_file
from stepladder.records.events import Event
from stepladder.records.journal import Journal
from stepladder.records.log_tail import log_tail
from stepladder.report.progress import Progress


@dataclass(frozen=True)
class Failure:
    """Why an attempt did not reach its stage's end.

    Attributes:
        diagnosis: the cause, and what helps.
        error: what the run ends with, unless another attempt is made.
    """

    diagnosis: Diagnosis
    error: StageFailed


def train_stage(
    directory: RunDirectory,
    run_id: str,
    plan: Plan,
    stage: PlannedStage,
    journal: Journal,
    request: StopRequest,
    saves_when_stopped: bool = True,
) -> Failure | None:
    """Launch a stage's next attempt and see it to its end; None when the stage's end is reached.

    A requested stop ends it with a checkpoint, or at once where `saves_when_stopped` says no.

    Raises Interrupted (or Preempted) after a requested stop.
    """
    files = write_task(directory, run_id, stage)
    log = paths.stage_log(stage.output_dir, stage.name)
    progress = Progress(plan, stage, files.heartbeat)
    number = int(files.root.name)
    started = {"attempt": number, "rung": stage.rung, "argv": stage.argv, "log": str(log)}
    journal.append(Event.ATTEMPT_STARTED, stage=stage.name, **started)
    progress.starting(number, log)
    log_file.begin(log, stage.name, number)
    supervisor = Supervisor(stage, files, log, request, progress, saves_when_stopped)
    kills = memory_kills()
    env = variables(stage.env, stage.launcher.nproc_per_node)
    outcome = launch(stage.argv, env, files.task.resolve(), log, supervisor)
    progress.close()
    state = stage_state(directory, run_id, stage)
    attempt = state.attempts[-1]
    if state.done:
        _record(journal, stage, state, outcome)
        if outcome.exit_code != 0:
            console.warn(
                f"stage {stage.name} reached its end, then its script failed (exit {outcome.exit_code}): {log}"
            )
        return None
    if _was_stopped(attempt, request, supervisor):
        _record(journal, stage, state, outcome, stopped=True)
        raise _stopped(stage, state, request)
    code = outcome.exit_code
    found = of_attempt(log, number, code, attempt.error, memory_kills() - kills, supervisor.hung)
    _record(journal, stage, state, outcome, found)
    return Failure(found, _error(stage, attempt, found, code, log))


def _was_stopped(attempt: Attempt, request: StopRequest, supervisor: Supervisor) -> bool:
    """Not where the script failed by itself on the way, say for a full disk: the same command would fail again."""
    if attempt.result is not None and attempt.result.status == "stopped":
        return True
    return request.made and (supervisor.cut_short or attempt.error is None) and supervisor.hung is None


def _stopped(stage: PlannedStage, state: StageState, request: StopRequest) -> Interrupted:
    """A scheduler may have signalled the ranks alone, which stopped without this engine having heard of it."""
    if not request.made:
        request.preempt("its processes were signalled")
    at = f"at {state.latest.name}" if state.latest else "before its first checkpoint"
    return request.error(f"stage {stage.name} was stopped {at}")


def _record(
    journal: Journal,
    stage: PlannedStage,
    state: StageState,
    outcome: Outcome,
    found: Diagnosis | None = None,
    stopped: bool = False,
) -> None:
    """The attempt's end: how, why, and what it cost in seconds and in steps that have to be trained again."""
    attempt = state.attempts[-1]
    cause: dict[str, str | bool] = {}
    if found is not None:
        cause = {"cause": found.cause, "why": found.sentence, "retry": found.retry, "memory": found.memory}
    journal.append(
        Event.ATTEMPT_ENDED,
        stage=stage.name,
        attempt=attempt.number,
        status=attempt.result.status if attempt.result else "no evidence",
        exit_code=outcome.exit_code,
        stopped=stopped,
        seconds=round(outcome.seconds, 1),
        steps_lost=_steps_lost(stage, state),
        **cause,
        result=attempt.result_digest,
    )


def _steps_lost(stage: PlannedStage, state: StageState) -> int:
    """Steps that were made and have to be made again, as far as the records tell."""
    attempt = state.attempts[-1]
    kept = stage.start_step if state.latest is None else paths.step_of(state.latest)
    made = [0 if attempt.heartbeat is None else attempt.heartbeat.step]
    if attempt.result is not None:
        made.append(attempt.result.evidence["steps"]["last"] or 0)
    return max(0, max(made) - kept)


def _error(stage: PlannedStage, attempt: Attempt, found: Diagnosis, exit_code: int, log: Path) -> StageFailed:
    tail = "\n".join(f"  | {line}" for line in log_tail(log))
    cause = found.sentence or _what_is_known(stage, attempt, exit_code)
    return StageFailed(f"stage {stage.name} failed: {cause}\nlog: {log}, its last lines:\n{tail}", hint=found.hint)


def _what_is_known(stage: PlannedStage, attempt: Attempt, exit_code: int) -> str:
    """What the records say of an attempt whose log has no sign of a known cause."""
    result = attempt.result
    if result is None:
        return f"its processes ended with exit code {exit_code} before training began"
    if result.status == "untrained":
        return f"its script ended with exit code {exit_code} without training"
    if result.status == "complete":
        return f"it ended, but {end_checkpoint(stage)} is not complete"
    last = result.evidence["steps"]["last"]
    return f"it ended with exit code {exit_code} after step {last} of {stage.end_step}"
