"""What must hold in a curriculum beyond the shape of its fields: budgets, names, directories, templates."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from stepladder.curriculum.levels import levels, mapping, stages, steps_of, whole
from stepladder.curriculum.templates import fields_in, stage_directory
from stepladder.curriculum.yaml_source import DataPath, Finding, suggestion
from stepladder.paths import contains

STAGE_DIR_FIELDS = ("index", "name", "output_dir")
PREPARE_FIELDS = ("python",)

_PATHS = ("model_name_or_path", "output_dir", "stage_dir", "script", "python")

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def findings(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Everything wrong that lies between fields rather than in one."""
    yield from _budgets(data)
    yield from _names(data)
    yield from _directories(data)
    yield from _templates(data)
    yield from _launchers(data)
    yield from _environment(data)
    yield from _variables(data)


def _budgets(data: Mapping[str, Any]) -> Iterator[Finding]:
    start: int | None = 0
    for number, (path, stage) in enumerate(stages(data), 1):
        name = f"stage `{stage['name']}`" if isinstance(stage.get("name"), str) else f"stage {number}"
        given: list[str] = [key for key in ("steps", "until_step") if stage.get(key) is not None]
        if len(given) != 1:
            yield _ambiguous(path, name, stage, given)
        steps = None if start is None or len(given) != 1 else steps_of(stage, start)
        if steps is not None and steps <= 0 and given == ["until_step"] and stage["until_step"] > 0:
            until = stage["until_step"]
            yield Finding(
                (*path, "until_step"),
                f"until_step {until} after {start}: {until} - {start} = {steps} steps in {name}, "
                f"expected more than {start}",
                f"`until_step` counts over all stages; for {until} steps of this stage, `steps: {until}`",
            )
        # After a stage without a sound budget, where the next one starts is not known.
        start = start + steps if start is not None and steps is not None and steps > 0 else None


def _ambiguous(path: DataPath, name: str, stage: Mapping[str, Any], given: list[str]) -> Finding:
    hint = "`steps` counts this stage alone, `until_step` from the start of the curriculum"
    if not given:
        return Finding(path, f"{name} has no budget, expected `steps` or `until_step`", hint)
    found = " and ".join(f"{key} {stage[key]}" for key in given)
    return Finding((*path, "until_step"), f"{name} has {found}, expected one of them", hint, at_key=True)


def _names(data: Mapping[str, Any]) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for path, stage in stages(data):
        name = stage.get("name")
        if not isinstance(name, str):
            continue
        if name.lower() in seen:
            first = seen[name.lower()]
            text = f"stage name `{name}` twice" if first == name else f"stage names `{first}` and `{name}`"
            unlike = "" if first == name else ", alike where case does not count"
            hint = "a stage is known by its name: in file names, in --stage and in --set"
            yield Finding((*path, "name"), f"{text}{unlike}, expected names that differ", hint)
        seen.setdefault(name.lower(), name)


def _directories(data: Mapping[str, Any]) -> Iterator[Finding]:
    template, output_dir = data.get("stage_dir"), data.get("output_dir")
    if not isinstance(output_dir, str) or not isinstance(template, str | None):
        return
    run = os.path.normpath(output_dir)
    here: DataPath = ("stage_dir",) if template else ("output_dir",)
    hint = "put {index} or {name} into stage_dir"
    seen: dict[str, str] = {}
    for number, (_, stage) in enumerate(stages(data), 1):
        name = stage.get("name")
        if not isinstance(name, str) or name in seen.values():
            continue
        folder = os.path.normpath(stage_directory(template, output_dir, number, name))
        if folder in seen:
            yield Finding(here, f"stages `{seen[folder]}` and `{name}` both write {folder}, expected one each", hint)
        elif contains(folder, run):
            text = f"stage `{name}` writes {folder}, which is or holds the run directory {run}, expected one of its own"
            yield Finding(here, text, hint)
        seen.setdefault(folder, name)


def _templates(data: Mapping[str, Any]) -> Iterator[Finding]:
    yield from unknown_fields(("stage_dir",), data.get("stage_dir"), STAGE_DIR_FIELDS)
    prepare = data.get("prepare")
    for number, command in enumerate(prepare if isinstance(prepare, list) else []):
        run = mapping(command).get("run")
        for index, word in enumerate(run if isinstance(run, list) else []):
            yield from unknown_fields(("prepare", number, "run", index), word, PREPARE_FIELDS)


def unknown_fields(path: DataPath, text: Any, known: tuple[str, ...]) -> Iterator[Finding]:
    """`{name}` in a template, of a name that nothing fills in."""
    for name in fields_in(text) if isinstance(text, str) else []:
        if name not in known:
            yield Finding(path, f"unknown field `{{{name}}}`{suggestion(name, known)}")


def _launchers(data: Mapping[str, Any]) -> Iterator[Finding]:
    for path, launcher in levels(data, "launcher"):
        if (whole(launcher.get("nnodes")) or 1) > 1:
            text = f"`nnodes`: found {launcher['nnodes']}, expected 1 until a cluster launcher exists"
            yield Finding((*path, "nnodes"), text, "train on one machine, with as many processes as it has devices")


def _environment(data: Mapping[str, Any]) -> Iterator[Finding]:
    for path, env in levels(data, "env"):
        for name in env:
            if not _VARIABLE.fullmatch(name):
                text = f"`{name}` is no name of an environment variable, expected letters, digits and `_`"
                yield Finding((*path, name), text, at_key=True)


def _variables(data: Mapping[str, Any]) -> Iterator[Finding]:
    """No shell reads the file, so `$HOME` would stay as it is written."""
    places: list[tuple[DataPath, Any]] = [((key,), data.get(key)) for key in _PATHS]
    places += [((*path, key), stage.get(key)) for path, stage in stages(data) for key in ("script", "python")]
    for path, text in places:
        if isinstance(text, str) and "$" in text:
            hint = (
                "variables are not replaced in the file: write the path out, or give it with --set on the command line"
            )
            yield Finding(path, f"`{path[-1]}`: found `$` in {text}, expected a path", hint)
