"""The loop of a run: for every stage, skip it if it is done, else train it, verify it, record it."""

from __future__ import annotations

import shutil
from pathlib import Path

from stepladder import console, export, past, paths
from stepladder.commands import evaluate_stage, prepare
from stepladder.errors import EvidenceError, Interrupted, PlanError, Problem, RunError, StageFailed
from stepladder.facts import collect, sealed_results
from stepladder.journal import Journal
from stepladder.launch.local import Outcome, StopRequest, launch, stop_requests, variables
from stepladder.launch.pack import pack_worker
from stepladder.paths import AttemptDirectory, RunDirectory
from stepladder.plan import Plan, PlannedStage
from stepladder.report.progress import Progress
from stepladder.tasks import StageState, run_identity, stage_state, write_task
from stepladder.verify import StageVerdict, check_stage, to_json
from stepladder_worker import manifest
from stepladder_worker.contract import TASK_VARIABLE, ContractError, Heartbeat, digest, read, read_json, write_json

#: Steps a requested stop lies ahead of the last heartbeat, so that no rank has passed it yet.
STOP_MARGIN_STEPS = 2
#: Last lines of a stage's log that a failure shows.
TAIL_LINES = 20


def run(plan: Plan, curriculum: Path, only: str | None = None, fresh: bool = False) -> list[StageVerdict]:
    """Run what is not done yet, in order, and return the verdict of every stage that was asked for.

    Raises PlanError when what is there does not fit the plan, RunError when another engine holds the run,
    StageFailed, EvidenceError, or Interrupted after a requested stop.
    """
    directory = RunDirectory(Path(plan.output_dir))
    chosen = _chosen(plan, only)
    if fresh:
        past.set_aside(directory, plan, only)
    with past.locked(directory), stop_requests() as request:
        run_id = run_identity(directory, plan)
        past.require_unchanged(directory, run_id, plan)
        open_run(directory, plan, curriculum)
        journal = Journal(directory.journal)
        prepare(plan, directory, journal)
        trained = [_stage(directory, run_id, plan, stage, journal, request) for stage in chosen]
        return _conclude(directory, plan, only, any(trained))


def open_run(directory: RunDirectory, plan: Plan, curriculum: Path) -> None:
    """Write down the plan and the curriculum, and pack the worker."""
    write_json(directory.plan, plan.to_json())
    shutil.copyfile(curriculum, directory.curriculum)
    pack_worker(directory.worker)


def by_hand(plan: Plan, stage: PlannedStage, curriculum: Path) -> dict[str, str]:
    """Write what a stage needs to be started by hand, and return the environment that its command needs."""
    directory = RunDirectory(Path(plan.output_dir))
    with past.locked(directory):
        run_id = run_identity(directory, plan)
        past.require_unchanged(directory, run_id, plan)
        open_run(directory, plan, curriculum)
        files = write_task(directory, run_id, stage)
    Path(stage.output_dir).mkdir(parents=True, exist_ok=True)
    return {**variables(stage.env, stage.launcher.nproc_per_node), TASK_VARIABLE: str(files.task.resolve())}


def elsewhere(plan: Plan, stage: PlannedStage) -> dict[str, str]:
    """The environment that a stage's command will need on another machine; writes nothing."""
    files = RunDirectory(Path(plan.output_dir)).attempt(stage.index, stage.name, 1)
    return {**variables(stage.env, stage.launcher.nproc_per_node), TASK_VARIABLE: str(files.task)}


def _chosen(plan: Plan, only: str | None) -> list[PlannedStage]:
    return [stage for stage in plan.stages if only in (None, stage.name)]


def _stage(
    directory: RunDirectory, run_id: str, plan: Plan, stage: PlannedStage, journal: Journal, request: StopRequest
) -> bool:
    """Bring one stage to its end; returns whether anything was trained for it."""
    state = stage_state(directory, run_id, stage)
    _require_idle(stage, state)
    _seal(stage, state, journal)
    if not state.done:
        _require_start(stage, state)
        _train(directory, run_id, plan, stage, journal, request)
    export.require_model(stage)
    _require_evidence(directory, plan, stage, journal)
    evaluate_stage(plan, directory, stage, journal)
    return not state.done


def _require_idle(stage: PlannedStage, state: StageState) -> None:
    """A stage that a person started by hand is not trained by two."""
    for attempt in state.attempts:
        if attempt.alive:
            where = attempt.files.heartbeat
            raise RunError(f"stage {stage.name} is being trained already, see {where}", hint="wait for it, or end it")


def _seal(stage: PlannedStage, state: StageState, journal: Journal) -> None:
    """Keep the digests of results that no engine saw end: of a stage run by hand, or before the engine was killed."""
    sealed = sealed_results(journal.read(), stage.name)
    for attempt in state.attempts:
        if attempt.result_digest is not None and attempt.number not in sealed:
            status = attempt.result.status if attempt.result else "unreadable"
            facts = {"attempt": attempt.number, "status": status, "result": attempt.result_digest}
            journal.append("attempt_found", stage=stage.name, **facts)


def _require_start(stage: PlannedStage, state: StageState) -> None:
    """The boundary checkpoint is complete, and the stage's directory holds nothing of somebody else."""
    if stage.resume_from is not None and stage.hook:
        found = manifest.problems(Path(stage.resume_from))
        if found:
            text = f"starts from {stage.resume_from}, which is not complete: {found[0]}"
            raise PlanError([Problem(f"stage {stage.name}", text, "run the stage before it first")])
    folder = Path(stage.output_dir)
    foreign = [path.name for path in (*folder.glob("checkpoint-*"), *folder.glob("config.json"))]
    if foreign and not state.attempts:
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
    console.note("stopping: the training writes a checkpoint first; press Ctrl-C again to end it at once")
    write_json(files.control, {"stop_step": beat.step + STOP_MARGIN_STEPS})
    return True


def _why_not_done(stage: PlannedStage, state: StageState, outcome: Outcome, log: Path) -> Interrupted | StageFailed:
    if outcome.stopped:
        at = f"at checkpoint {state.latest.name}" if state.latest else "before its first checkpoint"
        return Interrupted(f"stage {stage.name} was stopped {at}", hint="the same command continues it")
    result = state.attempts[-1].result
    if result is None:
        cause = f"its processes ended with exit code {outcome.exit_code} before training began"
    elif result.error is not None:
        cause = f"{result.error['type']}: {result.error['message']}"
    elif result.status == "untrained":
        cause = f"its script ended with exit code {outcome.exit_code} without training"
    else:
        last = result.evidence["steps"]["last"]
        cause = f"it ended with exit code {outcome.exit_code} after step {last} of {stage.end_step}"
    tail = "\n".join(f"  | {line}" for line in log_tail(log))
    text = cause.split("; hint: ")
    hint = text[1] if len(text) > 1 else "mend the cause and run the same command again: finished stages are kept"
    return StageFailed(f"stage {stage.name} failed: {text[0]}\nlog: {log}, its last lines:\n{tail}", hint=hint)


def log_tail(log: Path, lines: int = TAIL_LINES) -> list[str]:
    """Last lines of a log; of a progress bar only what it showed last."""
    if not log.is_file():
        return []
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 64 * 1024))
        text = file.read().decode("utf-8", errors="replace")
    return [line.rsplit("\r", 1)[-1] for line in text.splitlines() if line.strip()][-lines:]


def _require_evidence(directory: RunDirectory, plan: Plan, stage: PlannedStage, journal: Journal) -> None:
    verdict = check_stage(collect(directory, plan, deep=False, only=stage.name)[0])
    journal.append("stage_verified", stage=stage.name, **{k: v for k, v in verdict.to_dict().items() if k != "name"})
    if not verdict.ok:
        raise evidence_error([verdict])


def evidence_error(verdicts: list[StageVerdict]) -> EvidenceError:
    """Names every failed check of every stage with its figure."""
    lines = [f"stage {v.name}: {check.name}: {check.detail}" for v in verdicts for check in v.failed]
    return EvidenceError(
        "the evidence does not hold\n" + "\n".join(lines),
        hint="`stepladder verify RUN` shows every check; nothing was deleted",
    )


def _conclude(directory: RunDirectory, plan: Plan, only: str | None, trained: bool) -> list[StageVerdict]:
    """Read every checkpoint back, unless that was done for these very results."""
    recorded = _recorded_verdict(directory, plan)
    if recorded is not None and not trained:
        console.note(f"{plan.name} is done already, nothing to run")
        return recorded
    verdicts = verify_run(directory, plan, only)
    if not all(verdict.ok for verdict in verdicts):
        raise evidence_error(verdicts)
    return verdicts


def verify_run(directory: RunDirectory, plan: Plan, only: str | None = None) -> list[StageVerdict]:
    """Check every stage, reading its checkpoint back; the verdict on a whole run is kept."""
    verdicts = [check_stage(facts) for facts in collect(directory, plan, deep=True, only=only)]
    if only is None:
        write_json(directory.verification, {**to_json(verdicts), "results": _result_digests(directory, plan)})
    return verdicts


def _recorded_verdict(directory: RunDirectory, plan: Plan) -> list[StageVerdict] | None:
    try:
        recorded = read_json(directory.verification)
        if not recorded["ok"] or recorded["results"] != _result_digests(directory, plan):
            return None
        return [StageVerdict.from_dict(stage) for stage in recorded["stages"]]
    except (ContractError, KeyError, TypeError):
        return None


def _result_digests(directory: RunDirectory, plan: Plan) -> dict[str, str]:
    """What a kept verdict is about: the plan and every manifest."""
    ends = [Path(stage.output_dir) / f"checkpoint-{stage.end_step}" / manifest.NAME for stage in plan.stages]
    return {str(path): digest(path) for path in (directory.plan, *ends) if path.is_file()}
