"""Checks of the stage's last checkpoint: complete, finite, and holding what its manifest says."""

from __future__ import annotations

from collections import Counter
from typing import Any

from stepladder.records.facts import OnDisk, StageFacts
from stepladder.verify.verdict import Check
from stepladder_worker.carried import begun
from stepladder_worker.manifest import differences


def checkpoint(facts: StageFacts) -> Check:
    """The last checkpoint is complete; read back (deep), it holds what its manifest says, all of it finite."""
    if facts.on_disk is None or facts.manifest is None:
        return Check("checkpoint", False, f"no checkpoint-{facts.stage.end_step} with a manifest")
    if facts.on_disk.problems:
        return Check("checkpoint", False, "; ".join(facts.on_disk.problems[:3]))
    held = facts.manifest
    if (held.run_id, held.stage, held.global_step) != (facts.run_id, facts.stage.name, facts.stage.end_step):
        found = f"run {held.run_id}, stage {held.stage}, step {held.global_step}"
        return Check("checkpoint", False, f"its manifest is of {found}")
    if not held.files:
        return Check("checkpoint", False, "its manifest names no file")
    if not facts.on_disk.deep:
        return Check("checkpoint", True, f"{len(facts.manifest.files)} files complete (sizes)")
    disagreement = _manifest_disagreement(facts)
    if disagreement:
        return Check("checkpoint", False, disagreement)
    return Check(
        "checkpoint",
        True,
        f"{len(facts.manifest.files)} files complete (checksums), {len(facts.on_disk.weights)} tensors read back",
    )


def _manifest_disagreement(facts: StageFacts) -> str | None:
    """What the files hold against what the manifest says; None where they agree."""
    disk, state = facts.on_disk, facts.manifest.state if facts.manifest else {}
    if disk is None:
        return "no checkpoint"
    if disk.non_finite:
        return f"{len(disk.non_finite)} tensors are not finite, first {disk.non_finite[0]}"
    return (
        _weights_disagreement(disk, state)
        or _optimizer_disagreement(disk, state)
        or _random_state_disagreement(disk, state)
        or _schedule_disagreement(facts, disk)
    )


def _weights_disagreement(disk: OnDisk, state: dict[str, Any]) -> str | None:
    """By name where the names agree and by value elsewhere."""
    values = Counter(disk.weights.values())
    # An adapter's checkpoint has the trained weights alone; frozen ones count where they were saved.
    trained = set(state["optimizer_names"])
    lost = [
        name
        for name, value in state["weights"].items()
        if disk.weights.get(name, value) != value or (not values[value] and name in trained)
    ]
    return f"weights of {len(lost)} parameters differ from the manifest, first {lost[0]}" if lost else None


def _optimizer_disagreement(disk: OnDisk, state: dict[str, Any]) -> str | None:
    """Engines name the parameters in their files; torch numbers them, in the order that the manifest keeps."""
    names = state["optimizer_names"]
    if disk.optimizer is None:
        return "optimizer state is missing" if state["moments"] else None
    if any(entry["name"] is not None for entry in disk.optimizer):
        found = {entry["name"]: entry for entry in disk.optimizer}  # a parameter without state may be left out
    elif len(names) == len(disk.optimizer):
        found = dict(zip(names, disk.optimizer, strict=True))
    else:
        return f"optimizer has {len(disk.optimizer)} parameters, the manifest names {len(names)}"
    for name in {*names, *found}:
        if _begun(found.get(name)) != (state["moments"].get(name, {}), state["counters"].get(name)):
            return f"optimizer state of {name} differs from the manifest"
    wrong = differences(state["parked"], disk.parked)
    return f"parked optimizer state of {wrong[0]} differs from the manifest" if wrong else None


def _begun(entry: dict[str, Any] | None) -> tuple[dict[str, str], float | None]:
    """(moments, counter) read from a file; zeros without a count are no state yet, as in a manifest."""
    if entry is None or not begun(entry["moments"], entry["counter"]):
        return {}, None
    return entry["moments"], entry["counter"]


def _random_state_disagreement(disk: OnDisk, state: dict[str, Any]) -> str | None:
    if len(disk.rng) != len(state["rng"]):
        return f"random state of {len(disk.rng)} processes, the manifest has {len(state['rng'])}"
    wrong = [rank for rank, (found, saved) in enumerate(zip(disk.rng, state["rng"], strict=True)) if found != saved]
    return f"random state of rank {wrong[0]} differs from the manifest" if wrong else None


def _schedule_disagreement(facts: StageFacts, disk: OnDisk) -> str | None:
    """Trap 10: without a scheduler the plain Trainer loads no optimizer either. DeepSpeed keeps its own elsewhere."""
    if facts.stage.curve is None or facts.foreign_optimizer:
        return None
    if disk.schedule is None:
        return "scheduler.pt is missing"
    step, expected = disk.schedule.get("step"), facts.stage.end_step
    return None if step in (None, expected) else f"the scheduler is at step {step}, expected {expected}"
