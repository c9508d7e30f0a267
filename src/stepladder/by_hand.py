"""What a stage needs to be started by hand, by a pasted command."""

from __future__ import annotations

from pathlib import Path

from stepladder import past
from stepladder.data.ready import make_ready
from stepladder.launch.local import variables
from stepladder.paths import RunDirectory
from stepladder.plan import Plan, PlannedStage
from stepladder.tasks import run_identity, stage_state, write_task
from stepladder_worker.contract import TASK_VARIABLE


def here(plan: Plan, stage: PlannedStage, curriculum: Path) -> dict[str, str]:
    """Write the stage's task, and return the environment that its command needs.

    Raises PlanError when the run does not fit the plan, or an engine works on it.
    """
    directory = RunDirectory(Path(plan.output_dir))
    with past.locked(directory):
        run_id = run_identity(directory, plan)
        past.require_unchanged(directory, run_id, plan)
        past.write_down(directory, plan, curriculum)
        make_ready(plan, stage, stage_state(directory, run_id, stage).latest is not None, None)
        files = write_task(directory, run_id, stage)
    Path(stage.output_dir).mkdir(parents=True, exist_ok=True)
    return _environment(stage, files.task.resolve())


def elsewhere(plan: Plan, stage: PlannedStage) -> dict[str, str]:
    """The environment that a stage's command will need on another machine; writes nothing."""
    return _environment(stage, RunDirectory(Path(plan.output_dir)).attempt(stage.index, stage.name, 1).task)


def _environment(stage: PlannedStage, task: Path) -> dict[str, str]:
    return {**variables(stage.env, stage.launcher.nproc_per_node), TASK_VARIABLE: str(task)}
