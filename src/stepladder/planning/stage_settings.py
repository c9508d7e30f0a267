"""The settings of a planned stage, flat and by name, and how two of them differ: for people, secrets hidden.

Nothing of the file system counts but where paths lead, so that one folder has one name however it is spelled.
"""

# Long lists of words are easier to read and to compare as text.
# ruff: noqa: SIM905

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stepladder.planning.plan import PlannedStage
from stepladder_worker.redaction import HIDDEN, is_secret

#: What follows from other fields of a stage, or is there for people. The rest is compared and shown.
_DERIVED = frozenset(
    """
    index name start_step end_step lr_start lr_end curve output_dir model resume_from data_start_step in_force engine
    new_objective batch script_argv argv plain_argv sources changes rung rungs mixture evaluate args env
    """.split()
)
#: Characters of a value that are shown.
_LONGEST = 60


@dataclass(frozen=True)
class _Field:
    """What a person sees of a setting, and what decides whether it is the same."""

    shown: Any
    same: Any


def _fields(stage: PlannedStage) -> dict[str, _Field]:
    """What a person wrote of a stage, by name: `steps`, `args.seed`, `handover.rng`."""
    flat: dict[str, Any] = {"position": stage.index, "start": stage.start_step, "steps": stage.steps}
    for name, value in asdict(stage).items():
        if name not in _DERIVED:
            flat.update(
                {f"{name}.{key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
            )
    flat.update({f"env.{name}": value for name, value in stage.env.items()})
    # Where its selection lies is no setting of a stage with `data:`.
    args = {name: value for name, value in stage.args.items() if stage.mixture is None or name != "data"}
    flat.update({f"args.{name}": value for name, value in args.items()})
    mixture, evaluate = stage.mixture, stage.evaluate
    fields = {name: _Field(HIDDEN if is_secret(name) else value, value) for name, value in flat.items()}
    if stage.index == 1:
        fields["model"] = _Field(stage.model, _place(stage.model))
    return fields | {
        "directory": _Field(stage.output_dir, os.path.realpath(stage.output_dir)),
        "script": _Field(stage.script, _place(stage.script)),
        "data": _Field(mixture and mixture.name, mixture and mixture.key),
        "evaluate": _Field(evaluate and evaluate.what, evaluate and evaluate.run),
        "on_oom": _Field(rungs(ladder(stage)), ladder(stage)),
    }


def _place(text: str) -> str:
    """Where a path leads; what is none, as the name of a module or of a model on the hub, is as it is."""
    return os.path.realpath(text) if Path(text).exists() else text


def ladder(stage: PlannedStage) -> list[tuple[str, ...]]:
    """What each rung of a stage's out-of-memory ladder changes, from the top down."""
    return [rung.changes for rung in stage.rungs]


def rungs(changes: list[tuple[str, ...]]) -> str | None:
    """A ladder, or a part of one, in words."""
    return "; ".join(map(", ".join, changes)) or None


def changed(before: PlannedStage, now: PlannedStage) -> Iterator[tuple[str, str, str]]:
    """(field, old value, new value) of every field that differs, as people read them."""
    old, new, nothing = _fields(before), _fields(now), _Field(None, None)
    for name in dict.fromkeys((*old, *new)):
        was, is_now = old.get(name, nothing), new.get(name, nothing)
        if was.same != is_now.same:
            texts = shown(was.shown), shown(is_now.shown)
            yield name, texts[0], texts[1] if texts[0] != texts[1] else "changed"


def shown(value: Any) -> str:
    """A value as people read it; a long one is cut."""
    if isinstance(value, (list, tuple)):
        value = " ".join(map(str, value))
    text = "(not given)" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
