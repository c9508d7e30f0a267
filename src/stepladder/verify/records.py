"""Checks of the records: there is one, it is this run's own, and its steps join from the stage's start to its end."""

from __future__ import annotations

from stepladder.records.facts import Segment, StageFacts
from stepladder.verify.verdict import Check


def finished(facts: StageFacts) -> Check:
    if not facts.attempts:
        return Check("finished", False, "the stage has not been started")
    if facts.segments:
        return Check("finished", True, f"{len(facts.attempts)} attempt(s), {len(facts.segments)} of them used")
    last = facts.attempts[-1].result
    why = "the last attempt left no evidence: was it started by the plan's command?"
    if last is not None:
        why = f"last attempt: {last.status}" + (f": {last.error['message']}" if last.error else "")
    return Check("finished", False, why)


def evidence(facts: StageFacts) -> Check:
    """The records are this run's own, unedited, and tell of the task that was given."""
    if facts.journal_break is not None:
        return Check(
            "evidence", False, f"the journal was edited: line {facts.journal_break} does not follow the one before"
        )
    for segment in facts.segments:
        result, attempt = segment.result, segment.attempt
        label = f"attempt {attempt.number}"
        if (result.run_id, result.stage, result.attempt) != (facts.run_id, facts.stage.name, attempt.number):
            return Check("evidence", False, f"{label}: it is of another run, stage or attempt ({result.run_id})")
        if attempt.number not in facts.started and attempt.number not in facts.given:
            return Check("evidence", False, f"{label}: the journal does not know of it, so a part of it is lost")
        if result.task_digest != attempt.task_digest:
            return Check("evidence", False, f"{label}: its task file was changed after the worker read it")
        sealed = facts.sealed.get(attempt.number)
        if sealed is not None and sealed != attempt.result_digest:
            return Check("evidence", False, f"{label}: its result file was changed after the stage ended")
        if sealed is None and attempt.number in facts.started:
            return Check("evidence", False, f"{label}: the journal has its start and no seal of its result")
        problem = _task_problem(facts, segment)
        if problem:
            return Check("evidence", False, f"{label}: {problem}")
    last = facts.segments[-1].result.evidence
    if facts.manifest is not None and last["end"] != facts.manifest.state:
        return Check("evidence", False, "the result and the manifest of the last checkpoint tell different states")
    count = sum(segment.attempt.number in facts.sealed for segment in facts.segments)
    return Check("evidence", True, f"run {facts.run_id[:8]}, {len(facts.segments)} record(s), {count} sealed")


def _task_problem(facts: StageFacts, segment: Segment) -> str | None:
    """The task, which the digest in the result holds, is the plan's on a rung that the journal has the stage take."""
    task, number = segment.task, segment.attempt.number
    if task is None:
        return "its task file cannot be read"
    rungs, launched = len(segment.stage.rungs), facts.started.get(number, task.rung)
    if task.rung > rungs:
        return f"it was launched on rung {task.rung} of `on_oom`, the plan has {rungs}"
    if task.rung != launched or task.rung > len(facts.steps_down):
        return f"it was launched on rung {task.rung} of `on_oom`, and the journal has no such step down before it"
    planned = segment.stage.in_force
    for name in {**planned, **task.in_force}:
        if task.in_force.get(name) != planned.get(name):
            return f"its task says {name} {task.in_force.get(name)!r}, the plan {planned.get(name)!r}"
    return None


def global_step(facts: StageFacts) -> Check:
    found = None if facts.on_disk is None else facts.on_disk.global_step
    expected = facts.stage.end_step
    return Check("global_step", found == expected, f"{found}, expected {expected}")


def steps_trained(facts: StageFacts) -> Check:
    """The segments join without a gap from the stage's first step to its last."""
    spans, position, ok = [], facts.stage.start_step, True
    for segment, end in zip(facts.segments, facts.segment_ends, strict=True):
        steps = segment.evidence["steps"]
        first, last = steps["first"], steps["last"]
        spans.append(f"{first}-{end}")
        reached = last is not None and last >= end and steps["count"] == last - (first or 0) + 1
        ok = ok and first == position + 1 and reached
        position = end
    expected = f"{facts.stage.start_step + 1}-{facts.stage.end_step}"
    return Check("steps_trained", ok and position == facts.stage.end_step, f"{', '.join(spans)}; expected {expected}")
