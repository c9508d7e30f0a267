"""Checks of the stage's last checkpoint: complete, finite, and holding what its manifest says."""

from __future__ import annotations

from collections import Counter

from stepladder.facts import StageFacts
from stepladder.verify.verdict import Check


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
    """What the files hold against what the manifest says, by name where the names agree and by value elsewhere."""
    disk, state = facts.on_disk, facts.manifest.state if facts.manifest else {}
    if disk is None:
        return "no checkpoint"
    if disk.non_finite:
        return f"{len(disk.non_finite)} tensors are not finite, first {disk.non_finite[0]}"
    values = Counter(disk.weights.values())
    # An adapter's checkpoint has the trained weights alone; frozen ones count where they were saved.
    trained = set(state["optimizer_names"])
    lost = [
        name
        for name, value in state["weights"].items()
        if disk.weights.get(name, value) != value or (not values[value] and name in trained)
    ]
    if lost:
        return f"weights of {len(lost)} parameters differ from the manifest, first {lost[0]}"
    names = state["optimizer_names"]
    if disk.optimizer is not None:
        if len(names) != len(disk.optimizer):
            return f"optimizer has {len(disk.optimizer)} parameters, the manifest names {len(names)}"
        for name, entry in zip(names, disk.optimizer, strict=True):
            if entry["moments"] != state["moments"].get(name, {}) or entry["counter"] != state["counters"].get(name):
                return f"optimizer state of {name} differs from the manifest"
    elif state["moments"] and not facts.foreign_optimizer:
        return "optimizer state is missing"
    if disk.rng is not None and disk.rng != state["rng"] and facts.segments[-1].evidence["world_size"] == 1:
        return "random state differs from the manifest"
    return None
