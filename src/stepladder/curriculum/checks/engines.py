"""What must hold for the engines (DeepSpeed, FSDP) of a curriculum: one for all stages, and its way of saving."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from stepladder.curriculum import hf_args
from stepladder.curriculum.levels import mapping, stages
from stepladder.curriculum.yaml_source import DataPath, Finding


def findings(data: Mapping[str, Any]) -> Iterator[Finding]:
    """An engine's checkpoint is read by that engine alone; its number of processes may change, and its settings."""
    common = mapping(data.get("args"))
    asked = [(path, hf_args.merged(common, mapping(stage.get("args")))) for path, stage in stages(data)]
    for path, args in asked:
        if all(args.get(name) for name in hf_args.ENGINES):
            text = f"{' and '.join(hf_args.ENGINES)} in one stage, expected one engine"
            yield Finding(path, text, "take the other away with null")
    for (_, before), (path, now) in itertools.pairwise(asked):
        yield from _boundary(path, before, now)


def _boundary(path: DataPath, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Finding]:
    old, new = hf_args.engine(before), hf_args.engine(now)
    if old != new:
        text = (
            f"trains with {new or 'no engine'}, the stage before with {old or 'none'}, expected one for all stages: "
            "checkpoints of one engine cannot be read by another"
        )
        where: DataPath = (*path, "args", new) if new else path
        yield Finding(where, text, "state `deepspeed` or `fsdp` in the `args` of the curriculum, and in no stage null")
    formats = [str(mapping(args.get("fsdp_config")).get("state_dict_type")) for args in (before, now)]
    if old == new == "fsdp" and formats[0] != formats[1]:
        text = f"state_dict_type {formats[1]} after {formats[0]} in the stage before, expected one for all stages"
        yield Finding((*path, "args", "fsdp_config"), text, "a checkpoint of one kind cannot be loaded as the other")
