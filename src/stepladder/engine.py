"""The loop of a run: for every stage, skip it if it is done, else train it, verify it, record it."""

from __future__ import annotations

from pathlib import Path

from stepladder import console
from stepladder.attempts.retries import train_to_end
from stepladder.attempts.tasks import StageState, run_identity, stage_state
from stepladder.data.ready import make_ready
from stepladder.editing import fork, past
from stepladder.errors import PlanError, Problem, RunError, StageFailed
from stepladder.export import export_model
from stepladder.launch.stopping import StopRequest, stop_requests
from stepladder.paths import RunDirectory
from stepladder.planning.plan import Plan, PlannedStage
from stepladder.preflight import disk, planted_links
from stepladder.records.events import Event, ended_well, sealed_results
from stepladder.records.journal import Journal
from stepladder.side_commands import prepare
from stepladder.stage_evaluation import evaluate_stage
from stepladder.verdicts import conclude, require_evidence
from stepladder.verify.verdict import StageVerdict
from stepladder_worker import manifest


def run(
    plan: Plan, curriculum: Path, only: str | None = None, fresh: bool = False, parent: Plan | None = None
) -> list[StageVerdict]:
    """Run what is not done yet, in order, and return the verdict of every stage that was asked for.

    With `parent`, the plan of the same curriculum where its run lies, the run is a fork of that one.
    Raises PlanError when what is there does not fit the plan or another engine holds the run, RunError when a
    `prepare` command fails, StageFailed, EvidenceError, Interrupted after Ctrl-C, or Preempted.
    """
    directory = RunDirectory(Path(plan.output_dir))
    if fresh:
        past.set_aside(directory, plan, only)
    with past.locked(directory), stop_requests() as request:
        try:
            if parent is not None:
                fork.begin(parent, directory, plan)
            run_id, journal = run_identity(directory, plan), Journal(directory.journal)
            edit = past.accepted(directory, run_id, plan)
            plan = edit.plan
            chosen = plan.chosen(only)
            _look_ahead(directory, run_id, plan, chosen)
            past.record(edit, journal)
            past.write_down(directory, plan, curriculum, forked=parent is not None)
            prepare(plan, directory, journal)
            _make_data_ready(directory, run_id, plan, chosen, journal)
            trained = [_stage(directory, run_id, plan, stage, journal, request) for stage in chosen]
            return conclude(directory, plan, chosen, any(trained))
        except (RunError, OSError) as error:
            # Ctrl-C also reaches `prepare`, `evaluate` and the reading of checkpoints, which then fail.
            if request.made and not isinstance(error, StageFailed):
                raise request.error("the run was stopped") from error
            raise


def _look_ahead(directory: RunDirectory, run_id: str, plan: Plan, chosen: tuple[PlannedStage, ...]) -> None:
    """Nothing is launched or recorded where the next stage cannot be started, or where what is still to be trained
    would be written through a link, or cannot fit."""
    todo = [stage for stage in chosen if not stage_state(directory, run_id, stage).done]
    for stage in todo[:1]:  # the later ones start from what this one will have left
        _require_startable(directory, run_id, plan, stage, stage_state(directory, run_id, stage))
    planted_links.refuse(directory, todo)
    disk.require_room(plan, todo)
    for text in disk.remarks(plan, todo):
        console.note(text)


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
    if request.made:
        raise request.error(f"stopped before stage {stage.name}")
    state = stage_state(directory, run_id, stage)
    if state.inherited is not None:
        require_evidence(directory, stage, None)
        return False
    _require_idle(stage, state)
    _seal(stage, state, journal)
    if not state.done:
        _require_startable(directory, run_id, plan, stage, state)
        planted_links.refuse(directory, [stage])
        disk.require_room(plan, [stage])
        train_to_end(directory, run_id, plan, stage, journal, request)
    export_model(stage, directory.worker, journal)
    known = state.done and ended_well(journal.read(), stage.name)
    require_evidence(directory, stage, None if known else journal)
    evaluate_stage(plan, directory, stage, journal, request)
    return not state.done


def _require_startable(
    directory: RunDirectory, run_id: str, plan: Plan, stage: PlannedStage, state: StageState
) -> None:
    """Raises PlanError where a stage that is not done must not be trained now."""
    _require_idle(stage, state)
    _require_start(run_id, stage, state)
    _require_no_later(directory, run_id, plan, stage)


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
            journal.append(Event.ATTEMPT_FOUND, stage=stage.name, **facts)


def _require_no_later(directory: RunDirectory, run_id: str, plan: Plan, stage: PlannedStage) -> None:
    """A stage is not trained again under stages that continued from it: boundaries are never rewritten."""
    later = [s for s in plan.stages if s.index > stage.index and stage_state(directory, run_id, s).latest is not None]
    if later:
        text = f"is not complete, though stage {later[0].name} continued from it"
        hint = f"`--fresh --stage {stage.name}` sets it and what follows aside and trains them again"
        raise PlanError([Problem(f"stage {stage.name}", text, hint)])


def _require_start(run_id: str, stage: PlannedStage, state: StageState) -> None:
    """The boundary checkpoint is complete, the stage's directory holds nothing of somebody else, and no end of its own
    whose record is lost: it is written before the checkpoint is."""
    if state.end is not None and state.attempts:
        text = f"has ended ({state.end} is complete), and its record cannot be read"
        record = state.attempts[-1].files.result
        hint = f"put {record} back, or set the stage aside with `--fresh --stage {stage.name}`"
        raise PlanError([Problem(f"stage {stage.name}", text, hint)])
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
