"""Checks of what a boundary hands over: weights, optimizer, random state, best metric."""

from __future__ import annotations

from typing import Any

from stepladder.records.facts import Segment, StageFacts
from stepladder.verify.verdict import Check
from stepladder_worker import carried
from stepladder_worker.manifest import differences
from stepladder_worker.objective import expected, taken_over


def weights(facts: StageFacts) -> Check:
    """Every segment starts with the weights, by name, of the checkpoint before it."""
    for segment, before in zip(facts.segments, facts.states_before, strict=True):
        start = segment.evidence["start"]["weights"]
        if before is None:
            continue
        at_boundary = facts.stage.new_objective and segment is facts.segments[0]
        wrong = differences(expected(before["weights"], start) if at_boundary else before["weights"], start)
        if wrong:
            return Check("weights", False, f"{len(wrong)} of {len(start)} differ from the checkpoint, first {wrong[0]}")
    start, before = facts.segments[0].evidence["start"]["weights"], facts.states_before[0]
    count = len(start)
    if before is None:
        return Check("weights", True, f"{count} parameters of the base model")
    if facts.stage.new_objective:
        taken = taken_over(before["weights"], start)
        return Check("weights", bool(taken.common), f"another objective: {taken}")
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
    parked = {*end["parked"], *start["parked"]}
    lost = sorted(name for name in start["counters"] if name not in parked and gains.get(name, -1) < 0)
    if lost:
        return Check("optimizer", False, f"the state of {len(lost)} parameters was lost on the way, first {lost[0]}")
    steps = facts.stage.end_step - facts.stage.start_step
    if max(gains.values()) != steps:
        return Check("optimizer", False, f"step counters grew by {max(gains.values()):g}, the stage has {steps} steps")
    before_count = max(start["counters"].values(), default=0)
    kind = "reset by the curriculum, " if facts.stage.handover.optimizer == "reset" else ""
    counted = f"{kind}step counters {before_count:g} -> {max(end['counters'].values()):g}"
    return Check("optimizer", True, counted + _carried(facts))


def _optimizer_start(segment: Segment, before: dict[str, Any] | None) -> str | None:
    start = segment.evidence["start"]
    saved = before or {"counters": {}, "moments": {}}
    expected = carried.expected(saved, start["optimizer_names"])
    wrong = differences(expected["counters"], start["counters"])
    if wrong:
        found = max(start["counters"].values(), default=0)
        wanted = max(expected["counters"].values(), default=0)
        return f"step counters {found:g}, expected {wanted:g}, for {len(wrong)} parameters, first {wrong[0]}"
    wrong = differences(expected["moments"], start["moments"])
    if wrong:
        return f"moments of {len(wrong)} parameters differ, first {wrong[0]}"
    end = segment.evidence["end"] or start
    wrong = differences(expected["parked"], start["parked"]) or differences(start["parked"], end["parked"])
    return f"parked state of {len(wrong)} frozen parameters differs, first {wrong[0]}" if wrong else None


def _carried(facts: StageFacts) -> str:
    """What a boundary at which other parameters are trained made of their state; nothing to say at others."""
    before, names = facts.states_before[0], facts.segments[0].evidence["start"]["optimizer_names"]
    if before is None or facts.stage.handover.optimizer == "reset" or set(before["optimizer_names"]) == set(names):
        return ""
    return f"; {carried.described(carried.counts(before, names))}"


def random_state(facts: StageFacts) -> Check:
    for index, (segment, before) in enumerate(zip(facts.segments, facts.states_before, strict=True)):
        if before is None or (index == 0 and facts.stage.handover.rng == "reset"):
            continue
        saved = before["rng"]
        # With another number of processes, rank r goes on from rank r modulo the number saved.
        expected = [saved[rank % len(saved)] for rank in range(segment.evidence["world_size"])]
        if segment.evidence["loaded"]["random_state"] != expected:
            return Check("random_state", False, "the random state at the start is not the checkpoint's")
    if facts.states_before[0] is None or facts.stage.handover.rng == "reset":
        return Check("random_state", True, "the script's own seed")
    return Check("random_state", True, "equal to the checkpoint's")


def best_metric(facts: StageFacts) -> Check:
    start = facts.segments[0].evidence["best_metric"]["start"]
    return Check("best_metric", start is None, "none at the start" if start is None else f"{start} of another stage")
