"""The plain data of a curriculum: its top and its stages, each with its path. What has the wrong type is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stepladder.curriculum.yaml_source import DataPath


def mapping(value: Any) -> dict[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def stages(data: Mapping[str, Any]) -> list[tuple[DataPath, dict[str, Any]]]:
    """(path, content) of every stage that is a mapping, in order."""
    written = data.get("stages")
    items = written if isinstance(written, list) else []
    return [(("stages", index), item) for index, item in enumerate(items) if isinstance(item, dict)]


def levels(data: Mapping[str, Any], key: str) -> Iterator[tuple[DataPath, dict[str, Any]]]:
    """(path, content) of the mapping `key` of the curriculum and of every stage."""
    yield (key,), mapping(data.get(key))
    for path, stage in stages(data):
        yield (*path, key), mapping(stage.get(key))


def whole(value: Any) -> int | None:
    """The value if it is a whole number, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def steps_of(stage: Mapping[str, Any], start: int) -> int | None:
    """Steps of a stage that starts at the global step `start`; None where the stage does not say."""
    steps, until = whole(stage.get("steps")), whole(stage.get("until_step"))
    return steps if steps is not None else None if until is None else until - start
