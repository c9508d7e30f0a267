"""Parameters that rest: trained, unmoved since the start, and with nothing that would move them.

`verify` fails a trained parameter that did not move, so what rests for a reason is told apart here: its learning
rate or all of its gradients were zero, or its updates are lost in the precision of its values.
"""

from __future__ import annotations

from typing import Any

import torch

from stepladder_worker import distributed, session, snapshot


def names(stage: session.Session, now: dict[str, Any]) -> list[str]:
    """Names of the resting parameters, given the Snapshot of a checkpoint. Almost always there are none to look at."""
    start, trainer = stage.evidence.start, stage.trainer
    if start is None or trainer.optimizer is None:
        return []
    known = snapshot.names_by_id(trainer.model)
    unmoved = {name for name, value in now["weights"].items() if start["weights"].get(name) == value}
    own = {
        known[id(parameter)]
        for group, lr in zip(trainer.optimizer.param_groups, stage.evidence.highest_lr, strict=False)
        for parameter in group["params"]
        if known.get(id(parameter)) in unmoved and not _moves(parameter, trainer.optimizer.state.get(parameter, {}), lr)
    }
    # A shard may be empty, or have no gradient: a parameter rests where it rests on every rank.
    return sorted(set.intersection(*distributed.gather(own)))


def _moves(parameter: Any, state: dict[str, Any], lr: float) -> bool:
    """Whether an update by the current moments, at the highest learning rate used, changes a value.

    Adam's update (Kingma and Ba, 2015, algorithm 1) without its corrections of bias, which do not decide it.
    """
    value, first, second = (_local(tensor) for tensor in (parameter, state.get("exp_avg"), state.get("exp_avg_sq")))
    if first is None or value is None or first.shape != value.shape:
        return False  # an engine's partitions, or an optimizer of another kind: not known
    update = first if second is None else first / (second.sqrt() + 1e-8)
    return not torch.equal(value, (value - lr * update).to(value.dtype))


def _local(tensor: Any) -> torch.Tensor | None:
    """The part of a tensor that this process holds (a DTensor of FSDP2 has several)."""
    if tensor is None:
        return None
    part: torch.Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part.detach()
