"""A Snapshot: weights, optimizer state and random state of a training, by name and by fingerprint.

Taken right after loading and at every checkpoint, by all ranks together: what an engine has cut up is added up over
them. Plain data, so that it travels in JSON:

    {"global_step": 40,
     "weights": {"model.embed.weight": "float32[64, 32]:9f..."},
     "moments": {"model.embed.weight": {"exp_avg": "float32[64, 32]:0a...", "exp_avg_sq": ...}},
     "counters": {"model.embed.weight": 40},
     "optimizer_names": ["model.embed.weight", ...],       # in the order of the optimizer's state dict
     "rng": [{"cpu": "...", "numpy": "...", "python": "..."}]}     # one entry a rank
"""

from __future__ import annotations

from typing import Any

import torch

from stepladder_worker import carried, distributed, fingerprint, shards
from stepladder_worker.engines import plain, zero

#: What wrappers of a module put into the names of its parameters (torch.compile, activation checkpointing, FSDP1).
_WRAPPERS = ("_orig_mod.", "_checkpoint_wrapped_module.", "_fsdp_wrapped_module.")


def take(model: torch.nn.Module, optimizer: Any, global_step: int) -> dict[str, Any]:
    """Fingerprint everything that training would continue from. Shared (tied) parameters count once.

    Raises BoundaryError when processes that should be replicas are not.
    """
    engine, stepping = _engine(optimizer)
    names = names_by_id(model)
    moments, counters = engine.optimizer_state(names, stepping)
    held = {(names[id(parameter)], ""): engine.weight(parameter) for parameter in model.parameters()}
    held |= {(name, key): shard for name, kinds in moments.items() for key, shard in kinds.items()}
    prints = shards.fingerprints(held)
    printed = {name: {key: prints[name, key] for key in kinds} for name, kinds in moments.items()}
    begun = {name for name, kinds in printed.items() if carried.begun(kinds, counters.get(name))}
    return {
        "global_step": global_step,
        "weights": {name: text for (name, key), text in prints.items() if not key},
        "moments": {name: kinds for name, kinds in printed.items() if name in begun},
        "counters": {name: count for name, count in counters.items() if name in begun},
        "optimizer_names": engine.optimizer_order(names, stepping),
        "rng": distributed.gather(fingerprint.of_random_state(fingerprint.random_states())),
    }


def names_by_id(model: torch.nn.Module) -> dict[int, str]:
    """Name of every parameter by its id, without what wrappers add."""
    return {id(parameter): bare(name) for name, parameter in model.named_parameters()}


def optimizer_order(model: torch.nn.Module, optimizer: Any) -> list[str]:
    """Parameter names in the order in which the optimizer's state dict numbers them."""
    engine, stepping = _engine(optimizer)
    order: list[str] = engine.optimizer_order(names_by_id(model), stepping)
    return order


def non_finite(model: torch.nn.Module, optimizer: Any) -> list[str]:
    """Names of parameters that hold a NaN or an infinity on any rank."""
    engine, _ = _engine(optimizer)
    names = names_by_id(model)
    own = [names[id(parameter)] for parameter in model.parameters() if not engine.weight(parameter).finite]
    return sorted({name for found in distributed.gather(own) for name in found})


def state_entry(state: dict[str, Any]) -> tuple[dict[str, str], float | None]:
    """One parameter's optimizer state as fingerprints, and its step counter if it keeps one."""
    step = state.get("step")
    counter = None if step is None else float(step)
    return {key: fingerprint.of_tensor(value) for key, value in sorted(plain.tensors(state).items())}, counter


def engine_name(model: torch.nn.Module, optimizer: Any) -> str:
    """What really trains: "zero", "fsdp", "ddp" or "single"."""
    if zero.optimizer_of(optimizer) is not None:
        return "zero"
    if any(hasattr(parameter, "device_mesh") for parameter in model.parameters()):
        return "fsdp"
    return "ddp" if distributed.world() > 1 else "single"


def _engine(optimizer: Any) -> tuple[Any, Any]:
    """(the file that knows where the engine keeps its state, the optimizer to ask)."""
    partitioned = zero.optimizer_of(optimizer)
    return (plain, optimizer) if partitioned is None else (zero, partitioned)


def bare(name: str) -> str:
    """A parameter's name without what wrappers of its module add."""
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name
