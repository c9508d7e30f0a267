"""The loop of a run: for every stage, skip it if it is done, else train it, verify it, record it."""

from __future__ import annotations

import math
import time
from pathlib import Path

from stepladder import console, export, past, paths
from stepladder.errors import Interrupted, PlanError, Problem, RunError, StageFailed, StepladderError
from stepladder.facts import current_events, sealed_results
from stepladder.journal import Journal
from stepladder.launch.local import Outcome, StopRequest, launch, stop_requests, variables
from stepladder.log_tail import log_tail
from stepladder.paths import AttemptDirectory, RunDirectory
from stepladder.plan import Plan, PlannedStage
from stepladder.report.progress import Progress
from stepladder.side_commands import evaluate_stage, prepare
from stepladder.tasks import StageState, end_checkpoint, run_identity, stage_state, write_task
from stepladder.verdicts import conclude, require_evidence
from stepladder.verify.verdict import StageVerdict
from stepladder_worker import manifest
from stepladder_worker.contract import ContractError, Heartbeat, read, write_json

#: Steps a requested stop lies ahead of where the training is thought to be, so that no rank has passed it yet.
STOP_MARGIN_STEPS = 2
#: A heartbeat is at most about this old, in seconds, when it is read.
HEARTBEAT_AGE_SECONDS = 1.5


def run(plan: Plan, curriculum: Path, only: str | None = None, fresh: bool = False) -> list[StageVerdict]:
    """Run what is not done yet, in order, and return the verdict of every stage that was asked for.

    Raises PlanError when what is there does not fit the plan or another engine holds the run, RunError when a
    `prepare` command fails, StageFailed, EvidenceError, or Interrupted after a requested stop.
    """
    directory = RunDirectory(Path(plan.output_dir))
    chosen = plan.chosen(only)
    if fresh:
        past.set_aside(directory, plan, only)
    with past.locked(directory), stop_requests() as request:
        try:
            run_id = run_identity(directory, plan)
            past.require_unchanged(directory, run_id, plan)
            past.write_down(directory, plan, curriculum)
            journal = Journal(directory.journal)
            prepare(plan, directory, journal)
            trained = [_stage(directory, run_id, plan, stage, journal, request) for stage in chosen]
            return conclude(directory, plan, chosen, any(trained))
        except (RunError, OSError) as error:
            # Ctrl-C also reaches `prepare`, `evaluate` and the reading of checkpoints, which then fail.
            if request.count and not isinstance(error, StageFailed):
                raise Interrupted("the run was stopped", hint="the same command continues it") from error
            raise


def _stage(
    directory: RunDirectory, run_id: str, plan: Plan, stage: PlannedStage, journal: Journal, request: StopRequest
) -> bool:
    """Bring one stage to its end; returns whether anything was trained for it."""
    if request.count:
        raise Interrupted(f"stopped before stage {stage.name}", hint="the same command continues it")
    state = stage_state(directory, run_id, stage)
    _require_idle(stage, state)
    _seal(stage, state, journal)
    if not state.done:
        _require_start(run_id, stage, state)
        _require_no_later(directory, run_id, plan, stage)
        _train(directory, run_id, plan, stage, journal, request)
    _export(stage, journal)
    require_evidence(directory, stage, None if state.done else journal)
    evaluate_stage(plan, directory, stage, journal)
    return not state.done


def _require_idle(stage: PlannedStage, state: StageState) -> None:
    """A stage that a person started by hand is not trained by two."""
    for attempt in state.attempts:
        if attempt.alive:
            text = f"is being trained already, see {attempt.files.heartbeat}"
            raise PlanError([Problem(f"stage {stage.name}", text, "wait for it, or end it")])


def _seal(stage: PlannedStage, state: StageState, journal: Journal) -> None:
    """Keep the digests of results that no engine saw end: of a stage run by hand, or before the engine was killed."""
    sealed = sealed_results(journal.read(), stage.name)
    for attempt in state.attempts:
        if attempt.result_digest is not None and attempt.number not in sealed:
            status = attempt.result.status if attempt.result else "unreadable"
            facts = {"attempt": attempt.number, "status": status, "result": attempt.result_digest}
            journal.append("attempt_found", stage=stage.name, **facts)


def _export(stage: PlannedStage, journal: Journal) -> None:
    """See to the stage's model, once; whether its script ended well is known for attempts that this engine saw."""
    events = current_events(journal.read(), stage.name)
    if any(event["event"] == "model_ready" for event in events):
        return
    ended = [event for event in events if event["event"] == "attempt_ended"]
    export.require_model(stage, script_ended_well=bool(ended) and ended[-1].get("exit_code") == 0)
    journal.append("model_ready", stage=stage.name)


def _require_no_later(directory: RunDirectory, run_id: str, plan: Plan, stage: PlannedStage) -> None:
    """A stage is not trained again under stages that continued from it: boundaries are never rewritten."""
    later = [s for s in plan.stages if s.index > stage.index and stage_state(directory, run_id, s).latest is not None]
    if later:
        text = f"is not complete, though stage {later[0].name} continued from it"
        hint = f"`--fresh --stage {stage.name}` sets it and what follows aside and trains them again"
        raise PlanError([Problem(f"stage {stage.name}", text, hint)])


def _require_start(run_id: str, stage: PlannedStage, state: StageState) -> None:
    """The boundary checkpoint is complete, and the stage's directory holds nothing of somebody else."""
    if stage.resume_from is not None and stage.hook:
        found = manifest.problems(Path(stage.resume_from))
        if found:
            text = f"starts from {stage.resume_from}, which is not complete: {found[0]}"
            raise PlanError([Problem(f"stage {stage.name}", text, "run the stage before it first")])
    folder = Path(stage.output_dir)
    foreign = [path.name for _, path in manifest.checkpoints(folder) if manifest.owner(path) not in (run_id, None)]
    if not state.attempts:
        foreign += [path.name for path in (*folder.glob("checkpoint-*"), *folder.glob("config.json"))]
    if foreign:
        hint = "give the stage another directory, or set the old one aside with --fresh"
        raise PlanError([Problem(str(folder), f"holds {foreign[0]} of another training", hint)])


def _train(
    directory: RunDirectory, run_id: str, plan: Plan, stage: PlannedStage, journal: Journal, request: StopRequest
) -> None:
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
        lambda: _ask_to_stop(files),
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


def _ask_to_stop(files: AttemptDirectory) -> bool:
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


def _why_not_done(stage: PlannedStage, state: StageState, outcome: Outcome, log: Path) -> StepladderError:
    if outcome.stopped:
        at = f"at {state.latest.name}" if state.latest else "before its first checkpoint"
        return Interrupted(f"stage {stage.name} was stopped {at}", hint="the same command continues it")
    result = state.attempts[-1].result
    if result is None:
        cause = f"its processes ended with exit code {outcome.exit_code} before training began"
    elif result.error is not None:
        cause = f"{result.error['type']}: {result.error['message']}"
    elif result.status == "untrained":
        cause = f"its script ended with exit code {outcome.exit_code} without training"
    elif result.status == "complete":
        cause = f"it ended, but {end_checkpoint(stage)} is not complete"
    else:
        last = result.evidence["steps"]["last"]
        cause = f"it ended with exit code {outcome.exit_code} after step {last} of {stage.end_step}"
    tail = "\n".join(f"  | {line}" for line in log_tail(log))
    text, _, hint = cause.partition("; hint: ")
    default = "mend the cause and run the same command again: finished stages are kept"
    return StageFailed(f"stage {stage.name} failed: {text}\nlog: {log}, its last lines:\n{tail}", hint=hint or default)
