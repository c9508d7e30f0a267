"""Checks of what a boundary hands over: weights, optimizer, random state, best metric."""

from __future__ import annotations

from typing import Any

from stepladder.facts import Segment, StageFacts
from stepladder.verify.verdict import Check
from stepladder_worker.manifest import differences


def weights(facts: StageFacts) -> Check:
    """Every segment starts with the weights, by name, of the checkpoint before it."""
    for segment, before in zip(facts.segments, facts.states_before, strict=True):
        start = segment.evidence["start"]["weights"]
        if before is None:
            continue
        wrong = differences(before["weights"], start)
        if wrong:
            return Check("weights", False, f"{len(wrong)} of {len(start)} differ from the checkpoint, first {wrong[0]}")
    count = len(facts.segments[0].evidence["start"]["weights"])
    if facts.states_before[0] is None:
        return Check("weights", True, f"{count} parameters of the base model")
    return Check("weights", True, f"{count} of {count} parameters equal to {facts.boundary_name}")


def optimizer(facts: StageFacts) -> Check:
    """Moments and step counters: equal to the checkpoint before at the start, counted on by every step."""
    for index, (segment, before) in enumerate(zip(facts.segments, facts.states_before, strict=True)):
        reset = index == 0 and facts.stage.handover.optimizer == "reset"
        problem = _optimizer_start(segment, None if reset else before)
        if problem:
            return Check("optimizer", False, problem)
    start, end = facts.segments[0].evidence["start"], facts.segments[-1].evidence["end"]
    if not end["moments"] and any(group.get("momentum") != 0 for group in facts.segments[-1].evidence["groups"]):
        return Check("optimizer", False, "this optimizer shows no state, so that it went on is not proven")
    if not end["counters"]:
        return Check("optimizer", True, f"no step counters; moments of {len(end['moments'])} parameters compared")
    gains = {name: count - start["counters"].get(name, 0) for name, count in end["counters"].items()}
    steps = facts.stage.end_step - facts.stage.start_step
    if max(gains.values()) != steps:
        return Check("optimizer", False, f"step counters grew by {max(gains.values()):g}, the stage has {steps} steps")
    before_count = max(start["counters"].values(), default=0)
    kind = "reset by the curriculum, " if facts.stage.handover.optimizer == "reset" else ""
    return Check("optimizer", True, f"{kind}step counters {before_count:g} -> {max(end['counters'].values()):g}")


def _optimizer_start(segment: Segment, before: dict[str, Any] | None) -> str | None:
    start = segment.evidence["start"]
    expected = before or {"counters": {}, "moments": {}}
    wrong = differences(expected["counters"], start["counters"])
    if wrong:
        found = max(start["counters"].values(), default=0)
        wanted = max(expected["counters"].values(), default=0)
        return f"step counters {found:g}, expected {wanted:g}, for {len(wrong)} parameters, first {wrong[0]}"
    wrong = differences(expected["moments"], start["moments"])
    return f"moments of {len(wrong)} parameters differ, first {wrong[0]}" if wrong else None


def random_state(facts: StageFacts) -> Check:
    for index, (segment, before) in enumerate(zip(facts.segments, facts.states_before, strict=True)):
        if before is None or (index == 0 and facts.stage.handover.rng == "reset"):
            continue
        if segment.evidence["loaded"]["random_state"] != before["rng"]:
            return Check("random_state", False, "the random state at the start is not the checkpoint's")
    if facts.states_before[0] is None or facts.stage.handover.rng == "reset":
        return Check("random_state", True, "the script's own seed")
    return Check("random_state", True, "equal to the checkpoint's")


def best_metric(facts: StageFacts) -> Check:
    start = facts.segments[0].evidence["best_metric"]["start"]
    return Check("best_metric", start is None, "none at the start" if start is None else f"{start} of another stage")
