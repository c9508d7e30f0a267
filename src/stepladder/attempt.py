"""One launch of a stage: its processes, its log, its records, and why it did not reach the stage's end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

from stepladder import console, export, paths
from stepladder.errors import Interrupted, StageFailed, StepladderError
from stepladder.facts import current_events
from stepladder.journal import Journal
from stepladder.launch.local import Outcome, StopRequest, launch, variables
from stepladder.log_tail import log_tail
from stepladder.paths import AttemptDirectory, RunDirectory
from stepladder.plan import Plan, PlannedStage
from stepladder.report.progress import Progress
from stepladder.tasks import StageState, end_checkpoint, stage_state, write_task
from stepladder_worker.contract import ContractError, Heartbeat, read, write_json

#: Steps a requested stop lies ahead of where the training is thought to be, so that no rank has passed it yet.
STOP_MARGIN_STEPS = 2
#: A heartbeat is at most about this old, in seconds, when it is read.
HEARTBEAT_AGE_SECONDS = 1.5


def train_stage(
    directory: RunDirectory,
    run_id: str,
    plan: Plan,
    stage: PlannedStage,
    journal: Journal,
    request: StopRequest,
    ask: Callable[[AttemptDirectory], bool],
) -> None:
    """Launch a stage's next attempt and see it to its end.

    `ask` asks the training for a checkpoint after a requested stop; where it returns False, the training is ended at
    once. Raises Interrupted after such a stop, StageFailed with the cause and the end of the log when the stage did not
    reach its end; what to do next is the caller's to say where the training left no hint of its own.
    """
    files = write_task(directory, run_id, stage)
    log = paths.stage_log(stage.output_dir, stage.name)
    progress = Progress(plan, stage, files.heartbeat)
    attempt = int(files.root.name)
    journal.append("attempt_started", stage=stage.name, attempt=attempt, argv=stage.argv, log=str(log))
    progress.starting(attempt, log)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"=== stepladder: stage {stage.name}, attempt {attempt}, {time.strftime('%Y-%m-%d %H:%M:%S')} ===\n")
    outcome = launch(
        stage.argv,
        variables(stage.env, stage.launcher.nproc_per_node),
        files.task.resolve(),
        log,
        request,
        lambda: ask(files),
        progress.tick,
    )
    progress.close()
    state = stage_state(directory, run_id, stage)
    result = state.attempts[-1].result
    journal.append(
        "attempt_ended",
        stage=stage.name,
        attempt=attempt,
        status=result.status if result else "no evidence",
        exit_code=outcome.exit_code,
        seconds=round(outcome.seconds, 1),
        result=state.attempts[-1].result_digest,
    )
    if not state.done:
        raise _why_not_done(stage, state, outcome, log)
    if outcome.exit_code != 0:
        console.warn(f"stage {stage.name} reached its end, then its script failed (exit {outcome.exit_code}): {log}")


def ask_to_stop(files: AttemptDirectory) -> bool:
    """Ask all ranks for a checkpoint at a common step; False while there is nothing to save."""
    try:
        beat = read(Heartbeat, files.heartbeat)
    except ContractError:
        return False
    if beat.phase == "starting":
        return False
    console.note("stopping: the training writes a checkpoint first; press Ctrl-C again to end it at once")
    behind = time.time() - beat.time + HEARTBEAT_AGE_SECONDS
    ahead = math.ceil(behind / beat.step_seconds) if beat.step_seconds else 0
    write_json(files.control, {"stop_step": beat.step + ahead + STOP_MARGIN_STEPS})
    return True


def export_model(stage: PlannedStage, worker: Path, journal: Journal) -> None:
    """See to the stage's model, once; whether its script ended well is known for attempts that this engine saw."""
    events = current_events(journal.read(), stage.name)
    if any(event["event"] == "model_ready" for event in events):
        return
    ended = [event for event in events if event["event"] == "attempt_ended"]
    export.require_model(stage, worker, script_ended_well=bool(ended) and ended[-1].get("exit_code") == 0)
    journal.append("model_ready", stage=stage.name)


def _why_not_done(stage: PlannedStage, state: StageState, outcome: Outcome, log: Path) -> StepladderError:
    if outcome.stopped:
        at = f"at {state.latest.name}" if state.latest else "before its first checkpoint"
        return Interrupted(f"stage {stage.name} was stopped {at}")
    result, error = state.attempts[-1].result, state.attempts[-1].error
    if error is not None:
        where = f" (rank {error['rank']})" if "rank" in error else ""
        cause = f"{error['type']}: {error['message']}{where}"
    elif result is None:
        cause = f"its processes ended with exit code {outcome.exit_code} before training began"
    elif result.status == "untrained":
        cause = f"its script ended with exit code {outcome.exit_code} without training"
    elif result.status == "complete":
        cause = f"it ended, but {end_checkpoint(stage)} is not complete"
    else:
        last = result.evidence["steps"]["last"]
        cause = f"it ended with exit code {outcome.exit_code} after step {last} of {stage.end_step}"
    tail = "\n".join(f"  | {line}" for line in log_tail(log))
    text, _, hint = cause.partition("; hint: ")
    return StageFailed(f"stage {stage.name} failed: {text}\nlog: {log}, its last lines:\n{tail}", hint=hint or None)
