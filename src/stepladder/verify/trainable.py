"""Check of the trainable set: what the stage says is trained, what is frozen stayed, what is trained moved."""

from __future__ import annotations

from typing import Any

from stepladder.records.facts import StageFacts
from stepladder.verify.verdict import Check
from stepladder_worker.carried import UNNAMED
from stepladder_worker.patterns import selected

#: Types in which every update of a usual size shows. In the shorter ones it may be lost, which proves nothing.
_FULL_PRECISION = ("float32", "float64")
#: Engines whose moments of one parameter the worker can look at.
_JUDGED_ENGINES = ("single", "ddp", "fsdp")


def trainable(facts: StageFacts) -> Check:
    """The optimizer has what the patterns say; frozen parameters did not move, trained ones with gradients did."""
    if any(UNNAMED in state["optimizer_names"] for state in _states(facts)):
        return Check("trainable", True, "not decided: the optimizer has parameters that the model does not name")
    problem = _other_than_stated(facts)
    if problem:
        return Check("trainable", False, problem)
    start, end = facts.segments[0].evidence["start"]["weights"], facts.segments[-1].evidence["end"]["weights"]
    trained = {name for state in _states(facts) for name in state["optimizer_names"]}
    unmoved = {name for name, value in start.items() if end.get(name) == value}
    moved = sorted(set(start) - trained - unmoved)
    if moved:
        return Check("trainable", False, f"{len(moved)} frozen parameters moved, first {moved[0]}")
    still = sorted(trained & unmoved)
    stuck = [name for name in still if _should_have_moved(name, facts)]
    if stuck:
        text = f"{len(stuck)} trained parameters have gradients and did not move, first {stuck[0]}"
        return Check("trainable", False, text)
    return Check("trainable", True, _detail(facts, len(trained), len(start) - len(trained), still))


def _states(facts: StageFacts) -> list[dict[str, Any]]:
    """What every segment recorded at its start and at its last checkpoint."""
    return [segment.evidence[key] for segment in facts.segments for key in ("start", "end")]


def _other_than_stated(facts: StageFacts) -> str | None:
    patterns = facts.stage.trainable
    if patterns is None:
        return None
    for segment in facts.segments:
        start, aliases = segment.evidence["start"], segment.evidence["trainable"]["aliases"]
        chosen, trained = selected(start["weights"], patterns, aliases), set(start["optimizer_names"])
        for wrong, what in ((trained - chosen, "trained, not chosen"), (chosen - trained, "chosen, not trained")):
            if wrong:
                return f"{len(wrong)} parameters are {what} by `trainable`, first {min(wrong)}"
    return None


def _should_have_moved(name: str, facts: StageFacts) -> bool:
    """A full-precision parameter that was stepped, whose moments the worker saw large enough to change it."""
    last = facts.segments[-1].evidence
    return (
        last["engine"] in _JUDGED_ENGINES
        and last["end"]["weights"][name].startswith(_FULL_PRECISION)
        and _steps(name, facts) > 0
        and name not in last["trainable"]["resting"]
    )


def _steps(name: str, facts: StageFacts) -> float:
    """How often the optimizer stepped a parameter in this stage."""
    start, end = facts.segments[0].evidence["start"]["counters"], facts.segments[-1].evidence["end"]["counters"]
    return float(end.get(name, 0)) - float(start.get(name, 0))


def _detail(facts: StageFacts, trained: int, frozen: int, still: list[str]) -> str:
    idle = sum(_steps(name, facts) == 0 for name in still)
    parts = [f"{trained} parameters trained" + (f", {frozen} frozen and unmoved" if frozen else "")]
    if idle:
        parts.append(f"{idle} of the trained never had a gradient")
    if len(still) > idle:
        parts.append(
            f"{len(still) - idle} of the trained did not move: no gradient, or updates lost in their precision"
        )
    return "; ".join(parts)
