"""Optimizer state by parameter name: torch itself matches it by position alone (trap 5)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from stepladder_worker import carried, session, snapshot
from stepladder_worker.carried import UNNAMED

#: Of a parameter group: not state of the optimizer, whatever else its constructor does not take may be.
_NO_STATE = ("params", "param_names", "lr", "initial_lr")


@contextmanager
def by_name(model: Any, optimizer: Any, stage: session.Session) -> Iterator[None]:
    """While it lasts, `optimizer.load_state_dict` matches by name; what this stage does not train is parked.

    Raises BoundaryError where parameters differ and have no name in the model to be known by.
    """
    saved = [] if stage.loaded is None else stage.loaded.state["optimizer_names"]
    have = snapshot.optimizer_order(model, optimizer)
    load = optimizer.load_state_dict

    def load_state_dict(loaded: dict[str, Any]) -> None:
        own = optimizer.state_dict()
        if have != saved or _sizes(own) != _sizes(loaded):
            loaded = _arranged(loaded, saved, own, have, optimizer.defaults, stage)
        load(loaded)

    optimizer.load_state_dict = load_state_dict
    try:
        yield
    finally:
        del optimizer.load_state_dict
    if have != saved and stage.loaded is not None:
        counts = carried.counts(stage.loaded.state, have)
        stage.evidence.trainable["optimizer"] = counts
        stage.evidence.note(f"optimizer: {carried.described(counts)}")


def _arranged(
    loaded: dict[str, Any],
    saved: list[str],
    own: dict[str, Any],
    have: list[str],
    defaults: dict[str, Any],
    stage: session.Session,
) -> dict[str, Any]:
    """The loaded state dict in the layout of this stage's optimizer. Moves state between it and `stage.parked`."""
    _require_names(stage, saved, have)
    order = [(index, number) for number, group in enumerate(loaded["param_groups"]) for index in group["params"]]
    if len(order) != len(saved):
        raise session.BoundaryError(
            f"stage {stage.task.stage}: the optimizer of {stage.checkpoint} has {len(order)} parameters, its manifest "
            f"names {len(saved)}; hint: the file was written over; run the stage before it again"
        )
    states = {name: loaded["state"][i] for (i, _), name in zip(order, saved, strict=True) if i in loaded["state"]}
    thawed = {name: _copy(stage.parked.pop(name)) for name in have if name in stage.parked}
    if stage.rank == 0:  # one process writes it down
        stage.parked.update({name: _copy(state) for name, state in states.items() if name not in set(have)})
    held = {**states, **thawed}
    origin = {name: number for (_, number), name in zip(order, saved, strict=True)}
    no_state = {*_NO_STATE, *defaults}
    groups, start = [], 0
    for group in own["param_groups"]:
        members = have[start : start + len(group["params"])]
        start += len(members)
        sources = {origin[name] for name in members if name in origin}
        groups.append({**group, **_group_state([loaded["param_groups"][n] for n in sorted(sources)], no_state, stage)})
    return {
        **loaded,
        "state": {index: held[name] for index, name in enumerate(have) if name in held},
        "param_groups": groups,
    }


def _group_state(sources: list[dict[str, Any]], no_state: set[str], stage: session.Session) -> dict[str, Any]:
    """What optimizers keep in their groups (a step counter): from the groups that the parameters come from."""
    found: list[dict[str, Any]] = []
    for source in sources:
        state = {key: value for key, value in source.items() if key not in no_state}
        if not any(_same(state, other) for other in found):
            found.append(state)
    if len(found) > 1:
        raise session.BoundaryError(
            f"stage {stage.task.stage}: a parameter group takes parameters from {len(found)} groups of "
            f"{stage.checkpoint} whose own state differs ({', '.join(sorted(found[0]))}); hint: keep the groups, or "
            "hand over with `handover: {optimizer: reset}`"
        )
    return found[0] if found else {}


def _same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    """Equal by value; `==` alone does not decide tensors."""
    if left.keys() != right.keys():
        return False
    pairs = [(left[key], right[key]) for key in left]
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def _sizes(state: dict[str, Any]) -> list[int]:
    return [len(group["params"]) for group in state["param_groups"]]


def _copy(state: dict[str, Any]) -> dict[str, Any]:
    """On the CPU and of its own: no file stays mapped into what is trained, no device memory holds what is parked."""
    return {k: v.detach().cpu().clone() if isinstance(v, torch.Tensor) else v for k, v in state.items()}


def _require_names(stage: session.Session, saved: list[str], have: list[str]) -> None:
    for where, names in ((str(stage.checkpoint), saved), ("this stage", have)):
        lost = len(names) - len(set(names) - {UNNAMED})
        if lost:
            raise session.BoundaryError(
                f"stage {stage.task.stage}: the optimizer of {where} has {lost} parameters that the model does not "
                f"name, so their state cannot be matched with the {len(have)} parameters of this stage; hint: keep "
                "the trainable parameters equal or hand over with `handover: {optimizer: reset}`"
            )
