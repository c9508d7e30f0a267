"""What a person should know about a plan: what changes from stage to stage, and what may go wrong."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stepladder.curriculum import hf_args, objectives
from stepladder.planning.plan import PlannedStage, hidden
from stepladder_worker.redaction import is_secret

#: Relative change of the learning rate at a boundary that deserves a word.
LR_JUMP = 0.1


def changes(before: PlannedStage, now: PlannedStage) -> tuple[str, ...]:
    """What differs between two stages, one `name old -> new` each."""
    return (
        *differences(_args(before), _args(now)),
        *differences(hidden(before.env), hidden(now.env)),
        *(f"{name} changed" for name in now.env if is_secret(name) and before.env.get(name) != now.env[name]),
        *differences(_setting(before), _setting(now)),
    )


def warnings(schedule: str, stages: Sequence[PlannedStage]) -> tuple[str, ...]:
    """What may go wrong, in the order of the stages."""
    found = [text for stage in stages for text in _of_stage(stage)]
    if not all(stage.hook for stage in stages):
        found.append(
            "hook: false: the worker only observes; stages are not made to continue, and `run` stops where "
            "the evidence does not hold"
        )
    for before, now in itertools.pairwise(stages):
        found += _of_boundary(schedule, before, now)
    return tuple(dict.fromkeys(found))


def number(value: float | None) -> str:
    """A learning rate for people."""
    return "?" if value is None else re.sub(r"e([+-])0", r"e\1", f"{value:.3g}")


def _args(stage: PlannedStage) -> dict[str, Any]:
    """The arguments that a person wrote: where a stage's selection lies says nothing."""
    return {name: value for name, value in stage.args.items() if stage.mixture is None or name != "data"}


def _setting(stage: PlannedStage) -> dict[str, Any]:
    return {
        "script": stage.script,
        "python": stage.python,
        "nproc_per_node": stage.launcher.nproc_per_node,
        "data": None if stage.mixture is None else stage.mixture.name,
        "trainable": None if stage.trainable is None else " ".join(stage.trainable),
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """One `name old -> new` for each value that differs."""
    return tuple(
        f"{name} {_shown(before.get(name))} -> {_shown(now.get(name))}"
        for name in dict.fromkeys((*before, *now))
        if before.get(name) != now.get(name)
    )


def _shown(value: Any) -> str:
    return "(not given)" if value is None else str(value)


def _of_stage(stage: PlannedStage) -> Iterator[str]:
    if hf_args.is_on(stage.args.get("fp16")):
        yield f"stage {stage.name}: a step that overflows in fp16 is left out, and the stage then stops; bf16 has none"
    curve = stage.curve
    if curve is not None and curve.warmup_steps >= curve.total_steps:
        yield (
            f"stage {stage.name}: warm-up of {curve.warmup_steps} steps in a curve of {curve.total_steps}, "
            f"the learning rate never reaches {number(curve.peak)}"
        )


def _of_boundary(schedule: str, before: PlannedStage, now: PlannedStage) -> Iterator[str]:
    where = f"{before.name} -> {now.name} (step {now.start_step})"
    if schedule != "run" and _jumps(before.lr_end, now.lr_start):
        yield f"{where}: the learning rate jumps from {number(before.lr_end)} to {number(now.lr_start)}"
    if now.handover.data == "continue" and now.mixture is None:
        other = [name for name in hf_args.DATA_ARGS if before.args.get(name) != now.args.get(name)]
        if other:
            yield f"{where}: `data: continue`, but {', '.join(other)} differs: samples of other data are skipped"
    change = objectives.change(before.script, now.script)
    if change:
        yield f"{where}: {change[0]} -> {change[1]}, the objective changes, so the optimizer starts anew: weights only"
    elif now.handover.optimizer == "reset":
        yield f"{where}: the optimizer's state is dropped, as `optimizer: reset` asks"
    if before.transformers and now.transformers and before.transformers != now.transformers:
        yield (
            f"{where}: transformers {before.transformers} -> {now.transformers}; "
            "a checkpoint of one version may not load in another"
        )


def _jumps(before: float | None, now: float | None) -> bool:
    if before is None or now is None:
        return False
    return abs(now - before) > LR_JUMP * max(abs(before), abs(now))
