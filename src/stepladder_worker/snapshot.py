"""A Snapshot: weights, optimizer state and random state of a training process, by name and by fingerprint.

Taken right after loading and at every checkpoint. Plain data, so that it travels in JSON:

    {"global_step": 40,
     "weights": {"model.embed.weight": "float32[64, 32]:9f..."},
     "moments": {"model.embed.weight": {"exp_avg": "float32[64, 32]:0a...", "exp_avg_sq": ...}},
     "counters": {"model.embed.weight": 40},
     "optimizer_names": ["model.embed.weight", ...],       # in the order of the optimizer's state dict
     "rng": {"cpu": "...", "numpy": "...", "python": "..."}}
"""

from __future__ import annotations

from typing import Any

import torch

from stepladder_worker import fingerprint


def take(model: torch.nn.Module, optimizer: Any, global_step: int) -> dict[str, Any]:
    """Fingerprint everything that training would continue from. Shared (tied) parameters count once."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    order = optimizer_names(names, optimizer)
    moments, counters = _optimizer_state(names, optimizer)
    return {
        "global_step": global_step,
        "weights": {name: fingerprint.of_tensor(parameter) for name, parameter in model.named_parameters()},
        "moments": moments,
        "counters": counters,
        "optimizer_names": order,
        "rng": fingerprint.of_random_state(fingerprint.random_states()),
    }


def optimizer_names(names: dict[int, str], optimizer: Any) -> list[str]:
    """Parameter names in the order in which `optimizer.state_dict()` numbers them."""
    groups = [] if optimizer is None else optimizer.param_groups
    return [names.get(id(parameter), "?") for group in groups for parameter in group["params"]]


def non_finite(model: torch.nn.Module) -> list[str]:
    """Names of parameters that hold a NaN or an infinity."""
    return [name for name, value in model.named_parameters() if not bool(torch.isfinite(value.detach()).all())]


def _optimizer_state(names: dict[int, str], optimizer: Any) -> tuple[dict[str, dict[str, str]], dict[str, float]]:
    moments: dict[str, dict[str, str]] = {}
    counters: dict[str, float] = {}
    for index, (parameter, state) in enumerate(() if optimizer is None else optimizer.state.items()):
        # An engine that shards keeps flat partitions of its own, which have no name.
        name = names.get(id(parameter), f"partition {index}")
        moments[name], counter = state_entry(state)
        if counter is not None:
            counters[name] = counter
    return moments, counters


def state_entry(state: dict[str, Any]) -> tuple[dict[str, str], float | None]:
    """One parameter's optimizer state as fingerprints, and its step counter if it keeps one."""
    step = state.get("step")
    counter = None if step is None else float(step)
    tensors = {key: value for key, value in state.items() if key != "step" and isinstance(value, torch.Tensor)}
    return {key: fingerprint.of_tensor(value) for key, value in sorted(tensors.items())}, counter
