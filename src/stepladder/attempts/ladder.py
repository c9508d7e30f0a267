"""The out-of-memory ladder of a stage: on which rung it stands, the next one down, and what to say of it.

A stage that stepped down stays there until it is set aside, whoever launches it: the journal says how far. The stage
after it begins at its own top. Pure functions of the plan and of the journal's events; see docs/oom.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stepladder.curriculum import hf_args
from stepladder.planning.plan import PlannedStage
from stepladder.records.events import steps_down

#: Causes of a diagnosis that fewer data workers help first.
_OF_DATA_WORKERS = ("shared_memory", "data_worker_killed")


def taken(events: list[dict[str, Any]], stage: PlannedStage) -> int:
    """How many rungs of its ladder a stage has taken; a ladder that was cut shorter since has no more than it has."""
    return min(len(steps_down(events, stage.name)), len(stage.rungs))


def where_it_stands(events: list[dict[str, Any]], stage: PlannedStage) -> PlannedStage:
    """A stage as planned, as its next attempt is launched."""
    return stage.on_rung(taken(events, stage))


def next_rung(planned: PlannedStage, rung: int) -> int | None:
    """The rung below `rung`; None at the ladder's end."""
    return rung + 1 if rung < len(planned.rungs) else None


def step_down(planned: PlannedStage, rung: int, attempt: int, step: int, cause: str) -> dict[str, Any]:
    """The facts of the journal's event for a step down to `rung`.

    Args:
        planned: the stage as planned.
        rung: from 1.
        attempt: the one that ran out of memory.
        step: global step of the checkpoint that the next attempt goes on from.
        cause: of the diagnosis.
    """
    below = planned.rungs[rung - 1]
    samples = {"samples": below.batch.samples}
    changes = {"changes": list(below.changes)}
    return {"stage": planned.name, "attempt": attempt, "rung": rung, "step": step, **changes, **samples, "cause": cause}


def told(event: Mapping[str, Any]) -> str:
    """One step down for people."""
    where = f"stage {event['stage']}: stepped down at step {event['step']}"
    return f"{where}: {', '.join(event['changes'])}; samples a step {event['samples']} as planned"


def hint(stage: PlannedStage, cause: str) -> str:
    """What helps a stage that ran out of memory on the last of its rungs, or has none; `cause` of the diagnosis."""
    rung = _suggestion(stage, cause)
    if rung is None:
        return "make the samples smaller, or shard the model with `deepspeed` or `fsdp`: see docs/oom.md"
    if stage.rungs:
        return f"add a rung to `on_oom`, such as `- {rung}`, and run the same command again"
    return f"add to the curriculum a ladder to step down, `on_oom:` with the line `- {rung}`, and run it again"


def _suggestion(stage: PlannedStage, cause: str) -> str | None:
    """A rung below this one that keeps the samples of a step, as a curriculum writes it."""
    workers = hf_args.whole(stage.args.get("dataloader_num_workers")) or 0
    if cause in _OF_DATA_WORKERS and workers > 1:
        return f"{{dataloader_num_workers: {workers // 2}}}"
    batch = stage.batch.per_device
    divisor = next((number for number in range(2, batch + 1) if batch % number == 0), None)
    if divisor is not None:
        return f"{{per_device_train_batch_size: {batch // divisor}, gradient_accumulation_steps: x{divisor}}}"
    return None if hf_args.is_on(stage.args.get("gradient_checkpointing")) else "{gradient_checkpointing: true}"
