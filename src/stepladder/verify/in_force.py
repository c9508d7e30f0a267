"""Checks of what was in force: learning rate, hyper-parameters, finite losses."""

from __future__ import annotations

import itertools
from typing import Any

from stepladder.records.facts import Segment, StageFacts
from stepladder.verify.verdict import Check


def learning_rate(facts: StageFacts) -> Check:
    if facts.stage.curve is None:
        return Check("learning_rate", True, "schedule: script, so the script's own curve counts; not asserted")
    if facts.segments[-1].stage.curve != facts.stage.curve:
        return Check("learning_rate", False, "the journal has an edit of the curve after the stage was finished")
    checked = 0
    for segment in facts.segments:
        problem, count = _rates_problem(facts, segment)
        if problem:
            return Check("learning_rate", False, problem)
        checked += count
    return Check("learning_rate", True, f"as planned in all {checked} steps{_edits_told(facts)}")


def _rates_problem(facts: StageFacts, segment: Segment) -> tuple[str | None, int]:
    """What is wrong with the learning rates of an attempt, None where nothing is; and how many were checked."""
    curve = segment.stage.curve
    if curve is None or (segment.task is not None and segment.task.curve != curve):
        return f"attempt {segment.attempt.number} was given a curve that was not planned when it started", 0
    lr, steps = segment.evidence["lr"], segment.evidence["steps"]
    if lr["mismatched"]:
        first = lr["mismatches"][0]
        planned = f"planned {first['planned']}"
        if first["step"] <= facts.stage.start_step:
            planned = f"the plan has this stage begin with step {facts.stage.start_step + 1}"
        return f"step {first['step']}: {first['used']}, {planned}", 0
    if curve.peak not in lr["bases"]:
        return f"base rates {lr['bases']}, planned {curve.peak:g}", 0
    base = lr["bases"][0]
    for step, used in lr["logged"]:
        if used != base * curve.factor(step - 1):
            return f"step {step}: {used:g}, planned {base * curve.factor(step - 1):g}", 0
    if lr["checked"] < (steps["count"] or 0):
        return f"{lr['checked']} of {steps['count']} steps were checked", 0
    return None, int(lr["checked"])


def _edits_told(facts: StageFacts) -> str:
    """Where accepted edits of the curriculum gave the stage another curve."""
    segments = facts.segments
    steps = [now.start + 1 for before, now in itertools.pairwise(segments) if before.stage.curve != now.stage.curve]
    return f"; the curve was edited from step {', '.join(map(str, steps))} on" if steps else ""


def hyper_parameters(facts: StageFacts) -> Check:
    """What the curriculum states is what the Trainer had, and what the optimizer's groups had."""
    for segment in facts.segments:
        have, stated = segment.evidence["arguments"], segment.stage.in_force
        for name, wanted in stated.items():
            if name in have and have[name] != wanted:
                return Check("hyper_parameters", False, f"{name} was {have[name]!r}, the stage says {wanted!r}")
        problem = _cadence_problem(stated, segment.evidence) or _groups_problem(stated, segment.evidence)
        if problem:
            return Check("hyper_parameters", False, problem)
    seen = [name for name in facts.stage.in_force if name in facts.segments[0].evidence["arguments"]]
    return Check("hyper_parameters", True, f"{len(seen)} stated values in force{_rungs_told(facts)}")


def _rungs_told(facts: StageFacts) -> str:
    """What out-of-memory changed on the way: steps before it were made with what was stated above."""
    taken = [f"from step {event['step']} {', '.join(event['changes'])}" for event in facts.steps_down]
    return f"; {len(taken)} rung(s) taken: {'; '.join(taken)}" if taken else ""


def _cadence_problem(in_force: dict[str, Any], evidence: dict[str, Any]) -> str | None:
    """Trap 6b: how often the loop logs, evaluates and saves. Below 1 it is a part of all steps, which changes."""
    for name, used in evidence["cadence"].items():
        wanted = in_force.get(name)
        if wanted is not None and wanted >= 1 and used is not None and used != wanted:
            return f"{name} of the loop was {used}, the stage says {wanted}"
    return None


def _groups_problem(in_force: dict[str, Any], evidence: dict[str, Any]) -> str | None:
    for when, groups in (("", evidence["groups"]), (" at its end", evidence["groups_at_end"])):
        for name, wanted in _expected_of_groups(in_force).items():
            found = [group[name] for group in groups if name in group]
            # A group without decay is usual beside the stated one, and no other one where none is stated.
            stated_alone = name != "weight_decay" or wanted == 0
            if found and (wanted not in found or (stated_alone and any(value != wanted for value in found))):
                return f"{name} of the optimizer was {found}{when}, the stage says {wanted}"
    return None


def _expected_of_groups(in_force: dict[str, Any]) -> dict[str, Any]:
    expected = {}
    if "weight_decay" in in_force:
        expected["weight_decay"] = in_force["weight_decay"]
    if "adam_epsilon" in in_force:
        expected["eps"] = in_force["adam_epsilon"]
    if "adam_beta1" in in_force and "adam_beta2" in in_force:
        expected["betas"] = [in_force["adam_beta1"], in_force["adam_beta2"]]
    return expected


def finite(facts: StageFacts) -> Check:
    """Steps after the checkpoint that the next attempt resumed are not part of the stage."""
    for segment, end in zip(facts.segments, facts.segment_ends, strict=True):
        steps = [(segment.evidence["loss"] or {}).get("non_finite_step")]
        steps += [rank["non_finite_step"] for rank in segment.evidence["ranks"]]
        for step in steps:
            if step is not None and step <= end:
                return Check("finite", False, f"the loss is not finite at step {step}")
    return Check("finite", True, "every loss finite")
