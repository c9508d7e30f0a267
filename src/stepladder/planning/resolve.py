"""Spec to plan. Pure: it looks at no file; what it must know of an interpreter is given to it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stepladder import paths
from stepladder.curriculum import evaluation_command, hf_args, objectives
from stepladder.curriculum.spec import BUILT_IN, Curriculum, Evaluate, Part, Stage
from stepladder.curriculum.templates import fill, stage_directory
from stepladder.data import mixture
from stepladder.planning import remarks
from stepladder.planning.plan import EvaluatePlan, HangPlan, Plan, PlannedStage, PreparePlan, Processes, RetryPlan
from stepladder.planning.stage_command import Launching
from stepladder_worker.contract import Handover
from stepladder_worker.schedule import Curve

#: A crash in native code shows where; see docs.python.org/3/library/faulthandler.html and PyTorch's c10 errors.
BASE_ENV = {"PYTHONFAULTHANDLER": "1", "TORCH_SHOW_CPP_STACKTRACES": "1"}

_DEFAULTS = {
    "per_device_train_batch_size": hf_args.DEFAULT_BATCH_SIZE,
    "gradient_accumulation_steps": hf_args.DEFAULT_ACCUMULATION,
    "lr_scheduler_type": hf_args.DEFAULT_SCHEDULER,
}


def make_plan(
    curriculum: Curriculum, transformers: Mapping[str, str | None] | None = None, interpreter: str = sys.executable
) -> Plan:
    """Resolve a curriculum that `parse.load` accepted.

    Args:
        curriculum: as a person wrote it.
        transformers: its version by stage name; arguments are emitted as written where it is not known.
        interpreter: what trains a stage without `python`.
    """
    stages: list[PlannedStage] = []
    total = _end_of(curriculum)
    for index, stage in enumerate(curriculum.stages, 1):
        before = stages[-1] if stages else None
        planned = _stage(curriculum, stage, index, before, total, interpreter, (transformers or {}).get(stage.name))
        stages.append(planned if before is None else replace(planned, changes=remarks.changes(before, planned)))
    return Plan(
        name=curriculum.name,
        output_dir=curriculum.output_dir,
        schedule=curriculum.schedule,
        stages=tuple(stages),
        prepare=tuple(PreparePlan(tuple(item.run), item.creates) for item in curriculum.prepare),
        data_cache=None if curriculum.data is None else curriculum.data.cache,
        warnings=remarks.warnings(curriculum.schedule, stages),
    )


def interpreter_of(curriculum: Curriculum, stage: Stage, default: str = sys.executable) -> str:
    """The interpreter that trains a stage."""
    return stage.python or curriculum.python or default


def script_of(curriculum: Curriculum, stage: Stage) -> str:
    """The script of a stage: a path, or `module:NAME`."""
    return stage.script or curriculum.script


def environment_of(curriculum: Curriculum, stage: Stage) -> dict[str, str]:
    """The variables that a stage's processes get beside those of the caller."""
    return {**BASE_ENV, **curriculum.env, **stage.env}


def _stage(
    curriculum: Curriculum,
    stage: Stage,
    index: int,
    before: PlannedStage | None,
    total: int,
    interpreter: str,
    transformers: str | None,
) -> PlannedStage:
    start = before.end_step if before else 0
    end = start + _steps(stage, start)
    chosen = mixture_of(curriculum, stage, index - 1)
    script = script_of(curriculum, stage)
    files = paths.RunDirectory(Path(curriculum.output_dir)).data(index, stage.name)
    written = _with_data(hf_args.merged(curriculum.args, stage.args), chosen, script, files)
    curve, lr_start, lr_end = _learning_rate(curriculum.schedule, written, start, end, total)
    processes = _processes(curriculum, stage)
    new_objective = before is not None and objectives.change(before.script, script) is not None
    handover = _handover(curriculum, stage, new_objective)
    output_dir = stage_directory(curriculum.stage_dir, curriculum.output_dir, index, stage.name)
    model = before.output_dir if before else curriculum.model_name_or_path
    resume_from = str(paths.checkpoint(before.output_dir, before.end_step)) if before else None
    launching = Launching(
        schedule=curriculum.schedule,
        transformers=transformers,
        processes=processes,
        python=interpreter_of(curriculum, stage, interpreter),
        plain_python=interpreter_of(curriculum, stage, "python"),
        worker=str(paths.RunDirectory(Path(curriculum.output_dir)).worker),
        script=script,
        fixed={
            "model_name_or_path": model,
            "resume_from_checkpoint": resume_from,
            "output_dir": output_dir,
            "max_steps": end,
        },
    )
    launched = launching.with_args(written)
    return PlannedStage(
        index=index,
        name=stage.name,
        start_step=start,
        end_step=end,
        lr_start=lr_start,
        lr_end=lr_end,
        curve=curve,
        output_dir=output_dir,
        model=model,
        resume_from=resume_from,
        data_start_step=before.data_start_step if before and handover.data == "continue" else start,
        handover=handover,
        engine=hf_args.engine(written),
        trainable=_trainable(curriculum, stage),
        mixture=chosen,
        new_objective=new_objective,
        script=script,
        python=launching.python,
        launcher=processes,
        env=environment_of(curriculum, stage),
        evaluate=_evaluate(curriculum, stage, index, script, written),
        retries=RetryPlan(**(stage.retries or curriculum.retries).model_dump()),
        hang=_hang(curriculum, stage),
        time_limit=setting("time_limit", curriculum, stage),
        hook=curriculum.hook,
        transformers=transformers,
        sources=_sources(written, stage),
        rungs=launching.rungs(written, setting("on_oom", curriculum, stage) or ()),
        **launched,
    )


def mixture_of(curriculum: Curriculum, stage: Stage, index: int) -> mixture.Mixture | None:
    """What the stage with that index (from 0) says with `data:`; None where it does not. Raises MixtureError."""
    if curriculum.data is None or stage.data is None:
        return None
    return mixture.resolve(curriculum.data, stage.data, ("stages", index, "data"))


def _with_data(
    args: dict[str, Any], chosen: mixture.Mixture | None, script: str, files: paths.StageDataDirectory
) -> dict[str, Any]:
    """The built-in trainer is told the selection; other scripts get the exported samples where they say `{data}`."""
    if chosen is None:
        return args
    if script == BUILT_IN:
        return {"data": str(files.selection), **args}
    values = {"data": str(files.export), "data_dir": str(files.export.parent)}
    return {name: fill(value, **values) if isinstance(value, str) else value for name, value in args.items()}


def _steps(stage: Stage, start: int) -> int:
    steps = stage.steps if stage.steps is not None else (stage.until_step or 0) - start
    if steps <= 0:
        raise ValueError(f"stage {stage.name} has no steps: the curriculum was not read by parse.load")
    return steps


def _end_of(curriculum: Curriculum) -> int:
    end = 0
    for stage in curriculum.stages:
        end += _steps(stage, end)
    return end


def _learning_rate(
    schedule: str, args: Mapping[str, Any], start: int, end: int, total: int
) -> tuple[Curve | None, float | None, float | None]:
    """(planned curve, LR at the start, LR at the end)."""
    if schedule == "run":
        curve = hf_args.curve(args, total)
        return curve, curve.lr(start), curve.lr(end)
    if schedule == "stage":
        curve = hf_args.curve(args, end - start, offset=start)
        return curve, curve.lr(start), curve.lr(end)
    try:
        # What the plain Trainer makes of it: a curve from step 0 to max_steps, which is this stage's end.
        own = hf_args.curve(args, end)
    except ValueError:
        return None, None, None
    return None, own.lr(start), own.lr(end)


def _handover(curriculum: Curriculum, stage: Stage, new_objective: bool) -> Handover:
    """What is stated, the stage's over the curriculum's; another objective keeps no optimizer by itself."""
    stated = [spec.model_dump(exclude_unset=True) for spec in (curriculum.handover, stage.handover) if spec]
    optimizer = {"optimizer": "reset"} if new_objective else {}
    return Handover(**{name: value for part in (optimizer, *stated) for name, value in part.items()})


def _trainable(curriculum: Curriculum, stage: Stage) -> tuple[str, ...] | None:
    """A stage that writes `trainable:` without a value leaves it to the script, whatever the curriculum says."""
    patterns = setting("trainable", curriculum, stage)
    return None if patterns is None else tuple(patterns)


def setting(field: str, curriculum: Curriculum, stage: Stage) -> Any:
    """A setting of a stage; null in the stage counts as well, it takes away what the curriculum says."""
    return getattr(stage if field in stage.model_fields_set else curriculum, field)


def _hang(curriculum: Curriculum, stage: Stage) -> HangPlan | None:
    limits = setting("hang", curriculum, stage)
    return None if limits is None else HangPlan(**limits.model_dump())


def _evaluate(
    curriculum: Curriculum, stage: Stage, index: int, script: str, args: Mapping[str, Any]
) -> EvaluatePlan | None:
    """A stage that writes `evaluate:` has its own; the built-in evaluation is a command like any other."""
    spec: Evaluate | None = setting("evaluate", curriculum, stage)
    if spec is None or spec.data is None:
        return None if spec is None else EvaluatePlan(" ".join(spec.run or ()), tuple(spec.run or ()), None)
    chosen = evaluated_mixture(curriculum, spec)
    files = paths.RunDirectory(Path(curriculum.output_dir)).evaluation_data(index, stage.name)
    # Only of the built-in trainer it is known what the arguments mean.
    train, depth = (args.get("data"), hf_args.is_on(args.get("use_depth"))) if script == BUILT_IN else (None, False)
    options = {"train_data": train, "use_depth": depth, "limit": spec.limit, "batch_size": spec.batch_size}
    data = str(files.selection) if chosen else spec.data
    run = evaluation_command.words("{python}", "{model}", data, **options, predictions="{predictions}")
    return EvaluatePlan(spec.data, tuple(run), chosen)


def evaluated_mixture(curriculum: Curriculum, spec: Evaluate) -> mixture.Mixture | None:
    """What `evaluate: {data: ...}` names of `data:`; None where it is a file."""
    if curriculum.data is None or spec.data is None:
        return None
    try:
        return mixture.resolve(curriculum.data, [Part(dataset=spec.data)], ("evaluate", "data"))
    except mixture.MixtureError:
        return None


def _processes(curriculum: Curriculum, stage: Stage) -> Processes:
    own = stage.launcher.model_dump(exclude_unset=True) if stage.launcher else {}
    return Processes(**{**curriculum.launcher.model_dump(), **own})


def _sources(args: Mapping[str, Any], stage: Stage) -> dict[str, str]:
    """By the names that the curriculum uses, whatever a version of transformers calls them."""
    stated = {name: f"stage {stage.name}" if name in stage.args else "args" for name in args}
    return {**{name: f"default of transformers ({value})" for name, value in _DEFAULTS.items()}, **stated}
