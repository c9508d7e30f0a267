"""What must hold for `evaluate:`, of the curriculum and of its stages: one way to do it, and fields that are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stepladder.curriculum.checks.structure import unknown_fields
from stepladder.curriculum.levels import stages
from stepladder.curriculum.yaml_source import DataPath, Finding

#: Fields of a command that are filled in.
FIELDS = ("python", "model", "stage_dir", "checkpoint", "name", "index", "predictions")

_OF_THE_BUILT_IN = ("data", "limit", "batch_size")
_HINT = "`data` starts the built-in evaluation, `run` a command of your own"


def findings(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Everything wrong with what runs after the stages."""
    places: list[tuple[DataPath, Mapping[str, Any]]] = [((), data), *stages(data)]
    for path, level in places:
        written = level.get("evaluate")
        if isinstance(written, dict):
            yield from _evaluate((*path, "evaluate"), written)


def _evaluate(path: DataPath, written: Mapping[str, Any]) -> Iterator[Finding]:
    run = written.get("run")
    built_in = [key for key in _OF_THE_BUILT_IN if written.get(key) is not None]
    if run is not None and built_in:
        text = f"`evaluate` has `run` and `{built_in[0]}`, expected `data` or `run`"
        yield Finding((*path, built_in[0]), text, _HINT, at_key=True)
    elif run is None and "data" not in built_in:
        yield Finding(path, "`evaluate` has no `data` and no `run`, expected one of them", _HINT)
    for index, word in enumerate(run if isinstance(run, list) else []):
        yield from unknown_fields((*path, "run", index), word, FIELDS)
