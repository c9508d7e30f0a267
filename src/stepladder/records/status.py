"""Where a run stands, read from its files alone: nothing of it needs to be running."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stepladder import paths
from stepladder.attempts import ladder
from stepladder.attempts.tasks import Attempt, StageState, known_identity, stage_state
from stepladder.editing import past
from stepladder.errors import PlanError, Problem
from stepladder.paths import RunDirectory
from stepladder.planning.plan import Plan, PlannedStage
from stepladder.records.events import end_of_attempt, steps_down
from stepladder.records.journal import Journal
from stepladder_worker.contract import ContractError, read_sealed

VERSION = 1


@dataclass(frozen=True)
class StageStatus:
    """One stage: state is "done", "running", "interrupted" or "failed" (both go on with the
    same command), or "waiting"; `stepped_down` tells of every rung of its out-of-memory ladder that it took.
    `inherited_from` names the run that trained it, where a fork has it from there."""

    index: int
    name: str
    state: str
    step: int
    start_step: int
    end_step: int
    attempts: int
    loss: float | None
    stepped_down: list[str]
    inherited_from: str | None


def plan_of(run: RunDirectory) -> Plan:
    """The plan a run was started with. Raises PlanError when the directory has none."""
    try:
        return Plan.from_json(read_sealed(run.plan))
    except (ContractError, KeyError, TypeError, ValueError) as error:
        hint = "name the output_dir of a run, or its curriculum file"
        text = f"its plan cannot be read: {error}" if run.plan.exists() else "no run here (no plan.json)"
        raise PlanError([Problem(str(run.root), text, hint)]) from None


def run_status(run: RunDirectory, plan: Plan) -> list[StageStatus]:
    """Every stage as it stands now. Raises PlanError when the run has not been started."""
    run_id = known_identity(run)
    states = [(stage, stage_state(run, run_id, stage)) for stage in plan.stages]
    begun = [stage.index for stage, state in states if state.attempts and not state.done]
    at_work = begun[0] if begun and past.is_held(run) else None
    events = Journal(run.journal).read()
    return [_stage_status(stage, state, stage.index == at_work, events) for stage, state in states]


def to_json(plan: Plan, stages: list[StageStatus]) -> dict[str, Any]:
    """The document that `stepladder status --json` prints."""
    return {"version": VERSION, "name": plan.name, "stages": [asdict(stage) for stage in stages]}


def _stage_status(stage: PlannedStage, state: StageState, at_work: bool, events: list[dict[str, Any]]) -> StageStatus:
    last = state.attempts[-1] if state.attempts else None
    beat = last.heartbeat if last is not None else None
    if state.done:
        word, step = "done", stage.end_step
    elif at_work or (last is not None and last.alive):
        word, step = "running", beat.step if beat is not None else stage.start_step
    elif last is not None:
        word, step = _how_it_ended(last, events, stage), _step_of(state.latest, stage.start_step)
    else:
        word, step = "waiting", stage.start_step
    # An unfinished stage stands at its newest checkpoint, and the heartbeat may have gone on from there.
    loss = beat.loss if beat is not None and (word in ("done", "running") or beat.step == step) else None
    steps = (step, stage.start_step, stage.end_step)
    stepped_down = list(map(ladder.told, steps_down(events, stage.name)))
    origin = None if state.inherited is None else state.inherited.run
    return StageStatus(stage.index, stage.name, word, *steps, len(state.attempts), loss, stepped_down, origin)


def _how_it_ended(last: Attempt, events: list[dict[str, Any]], stage: PlannedStage) -> str:
    """Of the last attempt of a stage that is not done: "failed" where there is a cause, also where no worker came to
    record it; "interrupted" where it was stopped, or nobody saw it end."""
    recorded = last.result is not None and last.result.status in ("failed", "untrained")
    return "failed" if recorded or "cause" in end_of_attempt(events, stage.name, last.number) else "interrupted"


def _step_of(checkpoint: Path | None, otherwise: int) -> int:
    return otherwise if checkpoint is None else paths.step_of(checkpoint)
