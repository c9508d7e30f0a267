"""What must hold where a stage trains another objective than the one before: its optimizer starts anew."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from stepladder.curriculum import hf_args, objectives
from stepladder.curriculum.levels import mapping, stages
from stepladder.curriculum.spec import Curriculum
from stepladder.curriculum.yaml_source import DataPath, Finding


def findings(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Every boundary between two objectives that is told to keep the optimizer, or that an engine cannot cross."""
    common = data.get("script", Curriculum.model_fields["script"].default)
    for (_, before), (path, now) in itertools.pairwise(stages(data)):
        change = objectives.change(*(str(stage.get("script") or common) for stage in (before, now)))
        engine = hf_args.engine(hf_args.merged(mapping(data.get("args")), mapping(now.get("args"))))
        if change and engine:
            text = (
                f"from {change[0]} to {change[1]} under {engine}, which hands over one model whole, expected no engine"
            )
            yield Finding(path, text, "make the stages of the other objective a curriculum of their own")
        own: DataPath = (*path, "handover", "optimizer")
        for where, handover in ((own, now), (("handover", "optimizer"), data)):
            stated = mapping(handover.get("handover")).get("optimizer")
            if change and stated == "keep":
                text = f"`optimizer: keep` from {change[0]} to {change[1]}, another objective, expected `reset`"
                hint = "moments of another loss mean nothing here; leave the line out, and the weights alone go over"
                yield Finding(where, text, hint)
            if stated is not None:
                break
