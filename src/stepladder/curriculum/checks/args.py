"""What must hold for the arguments of the stages: names, numbers, the learning-rate curve."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from stepladder.curriculum import hf_args, hf_names
from stepladder.curriculum.levels import levels, mapping, stages, steps_of
from stepladder.curriculum.yaml_source import DataPath, Finding
from stepladder_worker.schedule import FORMULAS, UNPLANNABLE

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


def findings(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Everything wrong with the arguments of the curriculum and of its stages."""
    for path, args in levels(data, "args"):
        for name, value in args.items():
            yield from argument((*path, name), name, value)
    schedule = data.get("schedule", "run")
    if schedule == "run":
        yield from _stage_level(data)
    if schedule in ("run", "stage"):
        yield from _curves(data, schedule)


def argument(path: DataPath, name: str, value: Any) -> Iterator[Finding]:
    """What is wrong with one argument, in itself: its name, or a value that it cannot have."""
    if name in hf_args.OWNED:
        text = f"`{name}` among the arguments, which Stepladder sets itself, expected no such key"
        yield Finding(path, text, hf_args.OWNED[name], at_key=True)
    elif hf_args.is_secret(name) and isinstance(value, str):
        text = f"`{name}` among the arguments, which every user of the machine can read, expected no secret there"
        yield Finding(path, text, "set it in the environment, for example HF_TOKEN or WANDB_API_KEY", at_key=True)
    elif not _NAME.fullmatch(name):
        bare = name.lstrip("-")
        hint = f"write `{bare}:` without dashes" if _NAME.fullmatch(bare) else None
        yield Finding(path, f"`{name}` is no name of an argument", hint, at_key=True)
    elif meant := hf_names.meant(name):
        hint = hf_args.OWNED.get(
            meant, "argument names are those of transformers' TrainingArguments, and the script's own"
        )
        yield Finding(path, f"unknown argument `{name}`, did you mean `{meant}`?", hint, at_key=True)
    elif value is not None:
        try:
            hf_args.check(name, value)
        except ValueError as error:
            yield Finding(path, f"`{name}`: {error}")


def _stage_level(data: Mapping[str, Any]) -> Iterator[Finding]:
    """One curve over the whole run has one peak, one warm-up and one type."""
    for path, stage in stages(data):
        for name in mapping(stage.get("args")):
            if name.startswith(("warmup_", "lr_scheduler_")) or name == "learning_rate":
                text = f"`{name}` of one stage under `schedule: run`, expected it in the `args` of the curriculum only"
                yield Finding((*path, "args", name), text, "`schedule: stage` gives every stage its own curve", True)


def _curves(data: Mapping[str, Any], schedule: str) -> Iterator[Finding]:
    """One curve for a run, one a stage; each is reported where the stage, else the curriculum, states it."""
    common = mapping(data.get("args"))
    if schedule == "run":
        yield from _curve(("args",), common, _total(data))
        return
    start: int | None = 0
    reported = set()
    for path, stage in stages(data):
        own = mapping(stage.get("args"))
        steps = None if start is None else steps_of(stage, start)
        start = None if steps is None or start is None else start + steps
        for finding in _curve((*path, "args"), hf_args.merged(common, own), steps):
            if finding.path[-1] not in own and finding.path[-1] in common:
                finding = Finding(("args", finding.path[-1]), finding.text, finding.hint, finding.at_key)
            if finding not in reported:
                yield finding
            reported.add(finding)


def _curve(path: DataPath, args: dict[str, Any], steps: int | None) -> Iterator[Finding]:
    # A misspelt one is reported where it stands, by `argument`; so are numbers that are none.
    if args.get("learning_rate") is None and "learning_rate" not in map(hf_names.meant, args):
        needed = "scripts have defaults of their own; a planned curve needs the number"
        yield Finding((*path, "learning_rate"), "`learning_rate` is not stated, expected a number", needed)
    args = args | {name: _sound(name, args.get(name)) for name in ("learning_rate", "warmup_steps", "warmup_ratio")}
    name = "lr_scheduler_kwargs" if "lr_scheduler_kwargs" in args else "lr_scheduler_type"
    try:
        # The steps matter only to the values, which are not judged here; any number will do where none is known.
        hf_args.curve(args, max(1, steps or 1))
    except ValueError as error:
        metric = args.get("lr_scheduler_type") in UNPLANNABLE
        unknown = str(error).startswith("unknown lr_scheduler_type")
        hint = "`schedule: script` leaves the scheduler to the script" if metric or unknown else None
        close = difflib.get_close_matches(str(args.get("lr_scheduler_type")), FORMULAS, n=1)
        if unknown and close:
            hint = f"did you mean `{close[0]}`?"
        yield Finding((*path, "lr_scheduler_type" if metric or unknown else name), str(error), hint)


def _sound(name: str, value: Any) -> Any:
    """The number, or one that does no harm where there is none: the curve's type is judged all the same."""
    try:
        return hf_args.understood(name, value)
    except ValueError:
        return 1.0 if name == "learning_rate" else 0


def _total(data: Mapping[str, Any]) -> int | None:
    total = 0
    for _, stage in stages(data):
        steps = steps_of(stage, total)
        if steps is None:
            return None
        total += steps
    return total
