"""What a stage needs to be started by hand, by a pasted command."""

from __future__ import annotations

from pathlib import Path

from stepladder import shared_files
from stepladder.attempts import ladder
from stepladder.attempts.tasks import StageState, run_identity, stage_state, write_task
from stepladder.data.ready import make_ready
from stepladder.editing import past
from stepladder.errors import PlanError, Problem
from stepladder.launch.local import variables
from stepladder.paths import RunDirectory
from stepladder.planning.plan import Plan, PlannedStage
from stepladder.preflight import planted_links
from stepladder.records.events import Event
from stepladder.records.journal import Journal
from stepladder_worker.contract import TASK_VARIABLE


def here(plan: Plan, stage: PlannedStage, curriculum: Path) -> tuple[PlannedStage, dict[str, str]]:
    """Write the stage's task; returns the stage on its rung of the out-of-memory ladder, and the environment that its
    command needs.

    Raises PlanError when the run does not fit the plan, an engine works on it, or the stage is another run's.
    """
    directory = RunDirectory(Path(plan.output_dir))
    with past.locked(directory):
        planted_links.refuse(directory, [stage])
        run_id, journal = run_identity(directory, plan), Journal(directory.journal)
        state = stage_state(directory, run_id, stage)
        _require_own(stage, state)
        edit = past.accepted(directory, run_id, plan)
        plan = edit.plan
        stage = plan.chosen(stage.name)[0]
        past.record(edit, journal)
        past.write_down(directory, plan, curriculum)
        make_ready(plan, stage, state.latest is not None, None)
        stage = ladder.where_it_stands(journal.read(), stage)
        files = write_task(directory, run_id, stage)
        if not state.done:
            shared_files.release(Path(stage.output_dir))
        journal.append(Event.ATTEMPT_GIVEN, stage=stage.name, attempt=int(files.root.name))
    Path(stage.output_dir).mkdir(parents=True, exist_ok=True)
    return stage, _environment(stage, files.task.resolve())


def _require_own(stage: PlannedStage, state: StageState) -> None:
    """What a fork has from another run are the files of both: a training in their folders would write into that run."""
    if state.inherited is not None:
        text = f"is inherited from run {state.inherited.run}, and is not trained here"
        hint = f"to have this fork train it itself, set it and what follows aside with `--fresh --stage {stage.name}`"
        raise PlanError([Problem(f"stage {stage.name}", text, hint)])


def elsewhere(plan: Plan, stage: PlannedStage) -> dict[str, str]:
    """The environment that a stage's command will need on another machine; writes nothing."""
    return _environment(stage, RunDirectory(Path(plan.output_dir)).attempt(stage.index, stage.name, 1).task)


def _environment(stage: PlannedStage, task: Path) -> dict[str, str]:
    return {**variables(stage.env, stage.launcher.nproc_per_node), TASK_VARIABLE: str(task)}
