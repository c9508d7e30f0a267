"""Single process, DDP and FSDP2: the optimizer steps the model's own parameters, which FSDP2 makes DTensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from stepladder_worker import shards
from stepladder_worker.carried import UNNAMED
from stepladder_worker.shards import Shard


def weight(parameter: torch.Tensor) -> Shard:
    """What this process holds of a parameter."""
    return shards.of(parameter)


def optimizer_order(names: Mapping[int, str], optimizer: Any) -> list[str]:
    """Parameter names in the order in which `optimizer.state_dict()` numbers them; `names` is by id."""
    return [names.get(id(parameter), UNNAMED) for group in optimizer.param_groups for parameter in group["params"]]


def optimizer_state(names: Mapping[int, str], optimizer: Any) -> tuple[dict[str, dict[str, Shard]], dict[str, float]]:
    """(moments by parameter name and kind, step counters by parameter name)."""
    moments: dict[str, dict[str, Shard]] = {}
    counters: dict[str, float] = {}
    for parameter, state in optimizer.state.items():
        name = names.get(id(parameter), UNNAMED)
        moments[name] = {key: shards.of(value) for key, value in sorted(tensors(state).items())}
        if state.get("step") is not None:
            counters[name] = float(state["step"])
    return moments, counters


def tensors(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The moments among one parameter's optimizer state."""
    return {key: value for key, value in state.items() if key != "step" and isinstance(value, torch.Tensor)}
