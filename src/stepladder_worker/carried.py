"""What a stage takes over of the optimizer's state, by parameter name. Standard library only.

A stage may train other parameters than the one before. State travels by name: a parameter that is still trained
keeps its moments and counter; one that no longer is has them parked, in every checkpoint, until a stage thaws it;
a new one starts without. The worker holds what it loaded against this, and so does `verify`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: Stands for a parameter of the optimizer that the model does not name.
UNNAMED = "?"

#: Name of the 32-bit copy among ZeRO's moments, where the parameter itself has another type.
MASTER = "master"


def is_zero(fingerprint: str) -> bool:
    """Whether a tensor with this fingerprint holds zeros alone."""
    return fingerprint.endswith(":" + "0" * 16)


def begun(moments: Mapping[str, str], counter: float | None) -> bool:
    """Whether these are state: some engines make zeros before the first step, and the 32-bit copy is none of Adam's."""
    return bool(counter) or not all(is_zero(value) for key, value in moments.items() if key != MASTER)


def expected(state: Mapping[str, Any], names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What a stage whose optimizer has the parameters `names` must start with.

    Args:
        state: the Snapshot that it starts from (see `stepladder_worker.snapshot`).
        names: of the parameters in its own optimizer.

    Returns `moments` and `counters` as in a Snapshot, and `parked`: name -> {"moments", "counter"}. State that
    belongs to no named parameter (an engine's own partitions) is expected as it was.
    """
    now = set(names)
    gone = set(state.get("optimizer_names", ())) - now
    parked = dict(state.get("parked", {}))
    thawed = {name: parked.pop(name) for name in now & set(parked)}
    moments = {name: value for name, value in state["moments"].items() if name not in gone}
    counters = {name: value for name, value in state["counters"].items() if name not in gone}
    for name, entry in thawed.items():
        moments[name] = entry["moments"]
        if entry["counter"] is not None:
            counters[name] = entry["counter"]
    for name in gone & set(state["moments"]):
        parked[name] = {"moments": state["moments"][name], "counter": state["counters"].get(name)}
    return {"moments": moments, "counters": counters, "parked": parked}


def counts(state: Mapping[str, Any], names: Iterable[str]) -> dict[str, int]:
    """How many parameters `names` carry state over, start new, are thawed, and how many others are parked."""
    now, had = set(names), set(state["moments"])
    thawed = now & set(state.get("parked", {}))
    return {
        "carried": len(now & had),
        "new": len(now - had - thawed),
        "parked": len(expected(state, now)["parked"]),
        "thawed": len(thawed),
    }


def described(found: Mapping[str, int]) -> str:
    """`18 moments carried, 3 new, 5 parked, 2 thawed`."""
    return f"{found['carried']} moments carried, {found['new']} new, {found['parked']} parked, {found['thawed']} thawed"
