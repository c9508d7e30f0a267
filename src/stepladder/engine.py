"""The loop of a run: for every stage, skip it if it is done, else train it, verify it, record it."""

from __future__ import annotations

from pathlib import Path

from stepladder import past
from stepladder.attempt import ask_to_stop, export_model, train_stage
from stepladder.data.ready import make_ready
from stepladder.errors import Interrupted, PlanError, Problem, RunError, StageFailed
from stepladder.facts import sealed_results
from stepladder.journal import Journal
from stepladder.launch.local import StopRequest, stop_requests
from stepladder.paths import RunDirectory
from stepladder.plan import Plan, PlannedStage
from stepladder.side_commands import prepare
from stepladder.stage_evaluation import evaluate_stage
from stepladder.tasks import StageState, run_identity, stage_state
from stepladder.verdicts import conclude, require_evidence
from stepladder.verify.verdict import StageVerdict
from stepladder_worker import manifest


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
            _make_data_ready(directory, run_id, plan, chosen, journal)
            trained = [_stage(directory, run_id, plan, stage, journal, request) for stage in chosen]
            return conclude(directory, plan, chosen, any(trained))
        except (RunError, OSError) as error:
            # Ctrl-C also reaches `prepare`, `evaluate` and the reading of checkpoints, which then fail.
            if request.count and not isinstance(error, StageFailed):
                raise Interrupted("the run was stopped", hint="the same command continues it") from error
            raise


def _make_data_ready(
    directory: RunDirectory, run_id: str, plan: Plan, chosen: tuple[PlannedStage, ...], journal: Journal
) -> None:
    """Of all stages before the first one trains: what is wrong with the data of the last shows now, not in days."""
    for stage in chosen:
        state = stage_state(directory, run_id, stage)
        if not state.done:
            make_ready(plan, stage, state.latest is not None, journal)


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
    export_model(stage, directory.worker, journal)
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
    try:
        train_stage(directory, run_id, plan, stage, journal, request, ask_to_stop)
    except Interrupted as error:
        error.hint = "the same command continues it"
        raise
    except StageFailed as error:
        error.hint = error.hint or "mend the cause and run the same command again: finished stages are kept"
        raise
