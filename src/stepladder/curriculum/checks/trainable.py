"""What must hold for `trainable`: patterns that can choose something, and engines that can carry state by name."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from stepladder.curriculum import hf_args, objectives
from stepladder.curriculum.levels import mapping, stages
from stepladder.curriculum.spec import BUILT_IN
from stepladder.curriculum.yaml_source import DataPath, Finding
from stepladder_worker.patterns import AWAY


def findings(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Everything wrong with the trainable parameters of the curriculum and of its stages."""
    yield from _patterns((), data)
    for path, stage in stages(data):
        yield from _patterns(path, stage)
    yield from _engines(data)


def _patterns(path: DataPath, holder: Mapping[str, Any]) -> Iterator[Finding]:
    written = holder.get("trainable")
    patterns = [text for text in written if isinstance(text, str)] if isinstance(written, list) else []
    if patterns and all(pattern.startswith(AWAY) for pattern in patterns):
        text = f"`trainable` only takes away ({' '.join(patterns)}), expected a pattern that chooses parameters"
        yield Finding(
            (*path, "trainable"), text, f'what no pattern chooses is frozen; begin with "*" and then "{AWAY}..."'
        )


def _engines(data: Mapping[str, Any]) -> Iterator[Finding]:
    """An engine that shards the optimizer loads its state by position: the parameters must stay the same."""
    for (_, last), (path, stage) in itertools.pairwise(stages(data)):
        before, now = _stated(data, last), _stated(data, stage)
        engine = hf_args.engine(hf_args.merged(mapping(data.get("args")), mapping(stage.get("args"))))
        if engine and now != before and _keeps_optimizer(data, last, stage):
            text = (
                f"`trainable` changes from {_shown(before)} to {_shown(now)} under {engine}, whose optimizer state is "
                "loaded by position, expected the same parameters as in the stage before"
            )
            where = (*path, "trainable") if "trainable" in stage else path
            yield Finding(where, text, "start the stage's optimizer anew with `handover: {optimizer: reset}`")


def _stated(data: Mapping[str, Any], stage: Mapping[str, Any]) -> Any:
    return stage["trainable"] if "trainable" in stage else data.get("trainable")


def _keeps_optimizer(data: Mapping[str, Any], last: Mapping[str, Any], stage: Mapping[str, Any]) -> bool:
    """What is stated; a stage with another objective keeps no optimizer by itself."""
    stated = {**mapping(data.get("handover")), **mapping(stage.get("handover"))}
    scripts = (str(one.get("script") or data.get("script") or BUILT_IN) for one in (last, stage))
    return bool(stated.get("optimizer", "reset" if objectives.change(*scripts) else "keep") == "keep")


def _shown(patterns: Any) -> str:
    return " ".join(map(str, patterns)) if isinstance(patterns, list) else "the script's choice"
