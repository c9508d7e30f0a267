"""An edited curriculum against the run that was made with it: what differs, and what of that would rewrite the past.

Finished stages are frozen, a stage that has begun may get more steps, later ones are free. See docs/editing.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from stepladder.curriculum import hf_args
from stepladder.errors import Problem
from stepladder.planning.plan import Plan, PlannedStage
from stepladder.planning.remarks import number
from stepladder.planning.stage_settings import changed, ladder, rungs, shown
from stepladder_worker.schedule import Curve

#: What a finished stage keeps as it was trained, whatever the curriculum makes of it now. Of these, a run-wide curve
#: follows from the steps of later stages, and the others are settings of the whole curriculum.
KEPT = ("curve", "lr_start", "lr_end", "hook")
#: Fields of a finished stage, by the first part of their names, with which its checkpoint was made.
_FROZEN_WHEN_DONE = (
    *("position", "start", "directory", "model", "steps", "script", "launcher"),
    *("handover", "data", "trainable", "args"),
)
#: The same of a stage that has begun: the steps it made so far were made with it. `in_force` adds arguments to these.
_FROZEN_WHEN_BEGUN = ("position", "start", "directory", "model", "handover", "data", "trainable", "hook")
_CURVE_ARGS = frozenset(
    f"args.{name}"
    for name in ("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "warmup_ratio")
)
#: Compared where it must not change, and not shown elsewhere: it follows from the stages before.
_SILENT = ("start", "directory")


@dataclass(frozen=True)
class Standing:
    """How far a stage of the recorded plan has come: `done` also where its last checkpoint is damaged or away now,
    `reached` is the global step of its newest complete checkpoint, `rung` how many rungs of its out-of-memory ladder it
    has taken."""

    done: bool
    reached: int | None
    rung: int = 0

    @property
    def begun(self) -> bool:
        return self.reached is not None and not self.done


@dataclass(frozen=True)
class Difference:
    """One field of one stage (of the curriculum where `stage` is None), as it was and as it is now."""

    stage: str | None
    field: str
    before: str
    now: str

    def __str__(self) -> str:
        place = "" if self.stage is None else f"stage {self.stage}: "
        return f"{place}{self.field} {self.before} -> {self.now}"


@dataclass(frozen=True)
class Edit:
    """An edited curriculum, understood.

    Attributes:
        differences: what was edited, in the order of the stages.
        problems: what would rewrite the past; where there are any, the plan must not be run.
        plan: what holds now: finished stages keep the curve that they were trained with.
        curves: of the stage that has begun: its curve until now, and from its newest checkpoint on.
        jump: how the edit changes the learning rate where training goes on, for people; None where it does not.
        agreeing: how many of the first stages are finished and as they were: what a fork can have.
    """

    differences: tuple[Difference, ...]
    problems: tuple[Problem, ...]
    plan: Plan
    curves: dict[str, tuple[Curve | None, Curve | None]]
    jump: str | None
    agreeing: int


def compare(recorded: Plan, planned: Plan, standings: Mapping[str, Standing]) -> Edit:
    """What an edit of a curriculum means for its run.

    Args:
        recorded: the plan that the run was last run with, as it was written down.
        planned: the plan of the curriculum as it is now.
        standings: of every recorded stage, by name.
    """
    now = Plan.from_json(planned.to_json())  # secrets hidden, and lists as they are read back
    recorded = Plan.from_json(recorded.to_json())  # a secret may be known only since then
    found = {stage.name: tuple(_rewritten(stage, now, standings[stage.name])) for stage in recorded.stages}
    agreeing = _agreeing(recorded, standings, found)
    problems = [(name, text) for name, texts in found.items() for text in texts]
    hint = _hint(recorded, now, agreeing) if problems else None
    plan = replace(planned, stages=tuple(_holding(stage, recorded, standings) for stage in planned.stages))
    return Edit(
        differences=tuple(_differences(recorded, now)),
        problems=tuple(Problem(f"stage {name}", text, hint) for name, text in problems),
        plan=plan,
        curves=_curves(recorded, plan, standings),
        jump=_jump(recorded, plan, standings),
        agreeing=agreeing,
    )


def no_edit(plan: Plan) -> Edit:
    """Of a run that there is nothing of to compare with."""
    return Edit(differences=(), problems=(), plan=plan, curves={}, jump=None, agreeing=0)


def at_boundary(recorded: Plan, count: int) -> dict[str, Standing]:
    """How far a run has come that has finished so many of the recorded stages and begun none after them."""
    return {
        stage.name: Standing(stage.index <= count, stage.end_step if stage.index <= count else None)
        for stage in recorded.stages
    }


def kept(recorded: PlannedStage, planned: PlannedStage) -> PlannedStage:
    """A stage that was trained as `recorded`: what it keeps of that, whatever the curriculum makes of it now."""
    return replace(planned, **{name: getattr(recorded, name) for name in KEPT})


def _named(plan: Plan, name: str) -> PlannedStage | None:
    return next((stage for stage in plan.stages if stage.name == name), None)


def _holding(stage: PlannedStage, recorded: Plan, standings: Mapping[str, Standing]) -> PlannedStage:
    before = _named(recorded, stage.name)
    if before is None or not standings[stage.name].done:
        return stage
    # The rung that it was trained on is one of the ladder that it had then.
    return replace(kept(before, stage), rungs=before.rungs)


def _differences(recorded: Plan, now: Plan) -> Iterator[Difference]:
    if recorded.schedule != now.schedule:
        yield Difference(None, "schedule", recorded.schedule, now.schedule)
    if recorded.prepare != now.prepare:
        yield Difference(None, "prepare", f"{len(recorded.prepare)} command(s)", f"{len(now.prepare)}, changed")
    for stage in now.stages:
        before = _named(recorded, stage.name)
        if before is None:
            yield Difference(stage.name, "stage", "(none)", f"added, {stage.steps} steps")
            continue
        for field, old, new in changed(before, stage):
            if field not in _SILENT:
                yield Difference(stage.name, field, old, new)
    for stage in recorded.stages:
        if _named(now, stage.name) is None:
            yield Difference(stage.name, "stage", f"{stage.steps} steps", "removed")


def _rewritten(before: PlannedStage, now: Plan, standing: Standing) -> Iterator[str]:
    """What the edit would change of a stage that is finished or has begun, one sentence each."""
    if not standing.done and not standing.begun:
        return
    word = "is finished" if standing.done else f"has begun (checkpoint-{standing.reached})"
    stage = _named(now, before.name)
    if stage is None:
        there = next((stage.name for stage in now.stages if stage.index == before.index), "(none)")
        yield f"{word}; its `name` was {before.name}, now {there}: the curriculum has it no more"
        return
    changes = _of_finished(before, stage) if standing.done else _of_begun(before, stage, standing)
    for field, old, new in changes:
        if field not in _SILENT or stage.index == before.index:
            yield f"{word}; its `{field}` was {old}, now {new}"


def _of_finished(before: PlannedStage, now: PlannedStage) -> Iterator[tuple[str, str, str]]:
    for field, old, new in changed(before, now):
        if field.partition(".")[0] in _FROZEN_WHEN_DONE:
            yield field, old, new


def _of_begun(before: PlannedStage, now: PlannedStage, standing: Standing) -> Iterator[tuple[str, str, str]]:
    reached = standing.reached or 0
    enforced = {
        f"args.{name}"
        for name in {**before.in_force, **now.in_force}
        if before.in_force.get(name) != now.in_force.get(name)
    }
    frozen = enforced | {f"args.{name}" for name in hf_args.DATA_ARGS} | _CURVE_ARGS
    found = {field: texts for field, *texts in changed(before, now)}
    for field, (old, new) in found.items():
        if field in frozen or field.partition(".")[0] in _FROZEN_WHEN_BEGUN:
            yield field, old, new
    if _shape(before.curve) != _shape(now.curve) and not _CURVE_ARGS & set(found):
        yield "learning-rate curve", shown(_shape(before.curve)), shown(_shape(now.curve))
    if now.end_step <= reached and now.end_step != before.end_step:
        yield "steps", f"{before.steps}, {reached - before.start_step} of them made", f"{now.steps}: no more than that"
    taken = ladder(before)[: standing.rung]
    if ladder(now)[: len(taken)] != taken:
        yield "on_oom", shown(rungs(taken)), shown(rungs(ladder(now)))


def _shape(curve: Curve | None) -> dict[str, Any] | None:
    """What of a curve does not follow from the steps of the curriculum."""
    return None if curve is None else {key: value for key, value in asdict(curve).items() if not key.endswith("_steps")}


def _agreeing(recorded: Plan, standings: Mapping[str, Standing], found: Mapping[str, tuple[str, ...]]) -> int:
    count = 0
    for stage in recorded.stages:
        if not standings[stage.name].done or found[stage.name]:
            break
        count += 1
    return count


def _hint(recorded: Plan, now: Plan, agreeing: int) -> str:
    """A fork needs a finished stage to begin after; without one, everything would be trained anew."""
    if not agreeing:
        first = recorded.stages[0].name
        why = f"`--fork NEW_NAME` needs a finished stage that is as it was, and stage {first} is none"
        return f"take the change back, or set everything aside with `--fresh` and start anew; {why}"
    last = recorded.stages[agreeing - 1].name
    hint = f"take the change back, or train on from the end of stage {last} in a new run with `--fork NEW_NAME`"
    if agreeing < len(now.stages):
        following = now.stages[agreeing].name
        hint += f", or set stage {following} and what follows aside with `--fresh --stage {following}`"
    return hint


def _curves(
    recorded: Plan, plan: Plan, standings: Mapping[str, Standing]
) -> dict[str, tuple[Curve | None, Curve | None]]:
    found = {}
    for stage in plan.stages:
        before = _named(recorded, stage.name)
        if before is not None and standings[stage.name].begun and before.curve != stage.curve:
            found[stage.name] = (before.curve, stage.curve)
    return found


def _jump(recorded: Plan, plan: Plan, standings: Mapping[str, Standing]) -> str | None:
    """The learning rate of the next step to be trained, as it was planned and as it is now."""
    following = [stage for stage in plan.stages if not standings.get(stage.name, Standing(False, None)).done]
    if not following or following[0].curve is None:
        return None
    standing = standings.get(following[0].name)
    step = standing.reached if standing is not None and standing.reached is not None else following[0].start_step
    before = _curve_at(recorded, step)
    if step == 0 or before is None:
        return None
    old, new = before.lr(step), following[0].curve.lr(step)
    if old == new:
        return None
    return f"the learning rate of step {step + 1} was planned as {number(old)}, now it is {number(new)}"


def _curve_at(plan: Plan, step: int) -> Curve | None:
    """The curve that the step after `step` completed ones had; one of the whole run is known past its end as well."""
    for stage in plan.stages:
        if stage.start_step <= step < stage.end_step:
            return stage.curve
    last = plan.stages[-1].curve
    return last if last is not None and last.offset == 0 and plan.schedule == "run" else None
