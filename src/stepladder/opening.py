"""What a verb is given, opened: a curriculum file as a plan, a run by its directory or its curriculum."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from stepladder import console
from stepladder.attempts.tasks import known_identity
from stepladder.curriculum.parse import load
from stepladder.curriculum.spec import StageName
from stepladder.curriculum.templates import fields_in
from stepladder.curriculum.yaml_source import suggestion
from stepladder.editing import past
from stepladder.errors import CurriculumError, PlanError, Problem
from stepladder.paths import RunDirectory
from stepladder.planning.plan import Plan, PlannedStage
from stepladder.planning.resolve import make_plan
from stepladder.preflight.machine import checked_plan, hub_models
from stepladder.records.status import plan_of


def open_run(run: str) -> tuple[RunDirectory, Plan]:
    """A run by its directory or by its curriculum file. Raises PlanError when there is none.

    The paths of a plan start at the folder it was run from. That folder is found again from the run's own place, so
    a run can be looked at from anywhere, also when the whole folder was moved or copied.
    """
    if Path(run).is_file():
        run = load(run, ()).curriculum.output_dir
    resolved = plan_of(RunDirectory(Path(run)))
    place, own = Path(run).resolve(), Path(resolved.output_dir)
    if place.parts[-len(own.parts) :] != own.parts:
        text = f"this run was made as {own}, so its stages are not to be found from here"
        raise PlanError([Problem(run, text, f"move it back to a folder {own}")])
    os.chdir(Path(*place.parts[: -len(own.parts)]) if not own.is_absolute() else Path.cwd())
    return RunDirectory(own), resolved


def load_plan(
    file: str, overrides: list[str] | None, look_at_files: bool, fresh: bool = False, only: str | None = None
) -> Plan:
    """Curriculum file to plan. Raises CurriculumError or PlanError with every problem."""
    resolved = checked_plan(load(file, overrides or ()), look_at_files, fresh, only)
    for model in hub_models(resolved) if look_at_files else []:
        console.note(f"model {model} is taken for an id of the Hugging Face hub: not looked for")
    return resolved


def tell_of_edit(plan: Plan) -> None:
    """What `run` would say of a curriculum that has a run: its edits, or why it refuses them. Writes nothing."""
    run = RunDirectory(Path(plan.output_dir))
    if not run.identity.exists():
        return
    try:
        edit = past.accepted(run, known_identity(run, plan.name), plan)
    except PlanError as error:
        console.warn(f"`run` refuses this: {error.message}")
        if error.hint:
            console.note(error.hint)
    else:
        past.tell(edit)


def forked(file: str, overrides: list[str] | None, name: str) -> list[str]:
    """The overrides that make a curriculum that of a fork of its run, beside it.

    Raises CurriculumError for a name that could leave that folder, or a curriculum whose stages would not follow.
    """
    try:
        TypeAdapter(StageName).validate_python(name)
    except ValidationError as error:
        expected = error.errors()[0]["msg"]
        hint = "the fork lies beside the run, in a folder of that name"
        raise CurriculumError([Problem("--fork", f"found {name!r}, expected {expected}", hint)]) from None
    curriculum = load(file, overrides or ()).curriculum
    if curriculum.stage_dir is not None and "output_dir" not in fields_in(curriculum.stage_dir):
        text = f"`stage_dir` is {curriculum.stage_dir}, expected {{output_dir}} in it, so that a fork has its own"
        raise CurriculumError([Problem(file, text, "begin it with {output_dir}, or leave it out")])
    place = Path(curriculum.output_dir).parent / name
    if place == Path(curriculum.output_dir):
        text = f"{name} is the name of the run's own directory, expected another one"
        raise CurriculumError([Problem("--fork", text, "choose a new name for the fork")])
    return [*(overrides or ()), f"name={json.dumps(name)}", f"output_dir={json.dumps(str(place))}"]


def plan_of_parent(file: str, overrides: list[str] | None, fork: Plan) -> Plan:
    """The plan of a fork's curriculum where the run lies that is forked; nothing is looked for there."""
    versions = {stage.name: stage.transformers for stage in fork.stages}
    return make_plan(load(file, overrides or ()).curriculum, versions)


def stage_named(resolved: Plan, name: str) -> PlannedStage:
    """Raises CurriculumError, with the name that was meant, when there is no such stage."""
    for stage in resolved.stages:
        if stage.name == name:
            return stage
    known = suggestion(name, [stage.name for stage in resolved.stages])
    raise CurriculumError([Problem("--stage", f"no stage `{name}`{known}")])
