"""What must hold for the engines (DeepSpeed, FSDP) of a curriculum: one for all stages, and its way of saving.

Like `checks.py` it reads plain data, so that it speaks even where another field is wrong.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from stepladder import hf_args
from stepladder.checks import mapping, stages
from stepladder.yaml_source import DataPath, Finding


def findings(data: Mapping[str, Any]) -> Iterator[Finding]:
    """An engine's checkpoint is read by that engine alone; its number of processes may change, and its settings."""
    common = mapping(data.get("args"))
    asked = [(path, hf_args.merged(common, mapping(stage.get("args")))) for path, stage in stages(data)]
    for (_, before), (path, now) in itertools.pairwise(asked):
        old, new = hf_args.engine(before), hf_args.engine(now)
        formats = [str(mapping(args.get("fsdp_config")).get("state_dict_type")) for args in (before, now)]
        if old == new == "fsdp" and formats[0] != formats[1]:
            place: DataPath = (*path, "args", "fsdp_config") if "fsdp_config" in now else path
            text = f"state_dict_type {formats[1]} after {formats[0]} in the stage before, expected one for all stages"
            yield Finding(place, text, "a checkpoint of one kind cannot be loaded as the other")
        if old != new:
            where: DataPath = next(((*path, "args", name) for name in (old, new) if name and name in now), path)
            text = (
                f"{new or 'no engine that shards'} after {old or 'none'} in the stage before, expected one engine for "
                "all stages: its checkpoints cannot be read by another"
            )
            yield Finding(where, text, "state `deepspeed` or `fsdp` in the `args` of the curriculum")
