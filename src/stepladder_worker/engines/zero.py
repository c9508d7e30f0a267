"""DeepSpeed ZeRO: the optimizer steps flat partitions; where each parameter lies in them is what this file knows.

Read off the attributes of DeepSpeed's optimizers (0.9 to 0.19): `fp16_groups` and `grad_position` in stage 3,
`bit16_groups` and the parameters' `_hp_mapping` in stages 1 and 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from stepladder_worker import shards
from stepladder_worker.carried import MASTER, UNNAMED
from stepladder_worker.engines.plain import tensors
from stepladder_worker.shards import Shard


def optimizer_of(optimizer: Any) -> Any | None:
    """DeepSpeed's ZeRO optimizer behind the Trainer's; None where ZeRO is not at work."""
    while optimizer is not None:
        if hasattr(optimizer, "fp16_groups") or hasattr(optimizer, "bit16_groups"):
            return optimizer
        optimizer = getattr(optimizer, "optimizer", None)
    return None


def weight(parameter: torch.Tensor) -> Shard:
    """What this process holds of a parameter: its partition in stage 3, else the whole."""
    partition = getattr(parameter, "ds_tensor", None)
    if partition is None:
        return shards.of(parameter)
    shape = tuple(parameter.ds_shape)  # type: ignore[attr-defined]
    return Shard(partition.dtype, shape, (own_part(parameter, partition.detach()),), replicated=False)


def optimizer_order(names: Mapping[int, str], zero: Any) -> list[str]:
    """Parameter names in the order in which the partitions hold them."""
    return [names.get(id(parameter), UNNAMED) for group in _groups(zero) for parameter in group]


def optimizer_state(names: Mapping[int, str], zero: Any) -> tuple[dict[str, dict[str, Shard]], dict[str, float]]:
    """(moments by parameter name and kind, the 32-bit copy among them; step counters by parameter name)."""
    moments: dict[str, dict[str, Shard]] = {}
    counters: dict[str, float] = {}
    for place in places(zero):
        name = names.get(id(place.parameter), UNNAMED)
        state = zero.optimizer.state.get(place.flat, {})
        held = {key: value for key, value in tensors(state).items() if value.numel() == place.flat.numel()}
        if place.flat.dtype != place.parameter.dtype:
            held[MASTER] = place.flat
        moments[name] = {key: place.shard(held[key]) for key in sorted(held)}
        step = state.get("step", place.group.get("step"))
        if step is not None and held.keys() - {MASTER}:
            counters[name] = float(step)
    return moments, counters


@dataclass(frozen=True)
class Place:
    """Where the part of a parameter that this process steps lies.

    Attributes:
        parameter: of the model.
        flat: 32-bit partition that the optimizer steps.
        group: the optimizer's group of that partition.
        offset: first element in `flat`.
        start: its flat index in the whole parameter.
        count: elements; 0 where another process steps the parameter.
    """

    parameter: Any
    flat: torch.Tensor
    group: dict[str, Any]
    offset: int
    start: int
    count: int

    def shard(self, values: torch.Tensor) -> Shard:
        """The parameter's part of a tensor that is laid out like `flat`."""
        shape = tuple(getattr(self.parameter, "ds_shape", self.parameter.shape))
        part = values.detach().view(-1).narrow(0, self.offset, self.count)
        return Shard(values.dtype, shape, ((part, self.start),) if self.count else (), replicated=False)


def places(zero: Any) -> Iterator[Place]:
    """Every trained parameter, in the order of the partitions."""
    stage_3 = hasattr(zero, "fp16_groups")
    flats = zero.fp32_partitioned_groups_flat if stage_3 else zero.single_partition_of_fp32_groups
    groups = zero.optimizer.param_groups
    for index, (parameters, flat) in enumerate(zip(_groups(zero), flats, strict=True)):
        # Stage 3 cuts large groups into sub-groups; all of them keep the counter of the first.
        group = groups[index] if index < len(groups) else groups[-1]
        for parameter in parameters:
            place = _place_3(zero, parameter) if stage_3 else _place_2(parameter)
            yield Place(parameter, flat, group, *place)


def own_part(parameter: Any, partition: torch.Tensor) -> tuple[torch.Tensor, int]:
    """(elements of the parameter in this process's partition, flat index of the first): the last one is padded."""
    start = torch.distributed.get_rank(parameter.ds_process_group) * partition.numel()
    count = max(0, min(partition.numel(), parameter.ds_numel - start))
    return partition.view(-1).narrow(0, 0, count), start


def _groups(zero: Any) -> list[list[torch.Tensor]]:
    groups: list[list[torch.Tensor]] = getattr(zero, "fp16_groups", None) or zero.bit16_groups
    return groups


def _place_3(zero: Any, parameter: Any) -> tuple[int, int, int]:
    _, offset, _ = zero.grad_position[zero.get_param_id(parameter)]
    values, start = own_part(parameter, parameter.ds_tensor)
    return int(offset), start, values.numel()


def _place_2(parameter: Any) -> tuple[int, int, int]:
    mapping = parameter._hp_mapping
    if mapping is None:
        return 0, 0, 0  # another process steps it
    whole, partition = mapping.lp_fragment_address, mapping.hp_fragment_address
    return int(partition.start), int(whole.start), int(partition.numel)
