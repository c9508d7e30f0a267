"""YAML to spec: every error at once, each with its line and column."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from stepladder.curriculum import yaml_source
from stepladder.curriculum.checks import args, data, engines, evaluate, objectives, oom, structure, trainable
from stepladder.curriculum.levels import levels, stages
from stepladder.curriculum.spec import (
    Curriculum,
    Dataset,
    DataSpec,
    Evaluate,
    HandoverSpec,
    Hang,
    Launcher,
    Part,
    Prepare,
    Retries,
    Stage,
    Tiers,
)
from stepladder.curriculum.yaml_source import DataPath, Document, Finding, suggestion
from stepladder.errors import CurriculumError, Problem
from stepladder_worker import redaction

#: What pydantic's error types say about what was expected.
_EXPECTED = {
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "too_short": "at least one entry",
}
#: (error type, key of the limit in its context, words)
_LIMITS = (
    ("greater_than_equal", "ge", "at least"),
    ("less_than_equal", "le", "at most"),
    ("greater_than", "gt", "more than"),
    ("less_than", "lt", "less than"),
)
_SEE = "docs/curriculum.md describes every field"

_CHECKS = (structure, args, data, engines, evaluate, trainable, objectives, oom)


@dataclass(frozen=True)
class Loaded:
    """A curriculum file as it was read, sound or not.

    Attributes:
        document: knows where its values were written.
        refused: what is wrong with the overrides.
        findings: what is wrong with the curriculum.
        understood: the curriculum, or where it is wrong what is left of it without its mistakes: good for a look at
            the files it names, never for a plan. None when too little is left.
    """

    document: Document
    refused: tuple[Problem, ...]
    findings: tuple[Finding, ...]
    understood: Curriculum | None

    @property
    def sound(self) -> bool:
        """Whether the curriculum can be planned."""
        return not self.refused and not self.findings

    @property
    def curriculum(self) -> Curriculum:
        """The sound curriculum; raises CurriculumError with every problem of one that is not."""
        if not self.sound or self.understood is None:
            raise CurriculumError(self.problems())
        return self.understood

    def problems(self, others: Iterable[Finding] = ()) -> list[Problem]:
        """Everything that is wrong, `others` as well, in the order of the file; one of them at least has a hint."""
        # Stages that share a setting find the same fault in it.
        found = [*self.refused, *self.document.problems(dict.fromkeys((*self.findings, *others)))]
        if found and not any(problem.hint for problem in found):
            found[0] = replace(found[0], hint=_SEE)
        return found


def load(file: str, overrides: Sequence[str] = ()) -> Loaded:
    """Read a curriculum, with `KEY=VALUE` overrides applied.

    Raises CurriculumError only for a file that is no YAML mapping; other mistakes are in what it returns.
    """
    document = yaml_source.read(file)
    document.include("data")
    refused = document.override(overrides)
    document.include("data")  # `--set data=FILE` names another
    for _, env in levels(document.data, "env"):
        redaction.remember(env)
    findings = [finding for kind in _CHECKS for finding in kind.findings(document.data)]
    understood: Curriculum | None
    try:
        understood = Curriculum.model_validate(document.data)
    except ValidationError as error:
        findings += _spec_findings(error)
        understood = _without_mistakes(document.data, error)
    return Loaded(document, tuple(refused), tuple(findings), understood)


#: For what is required and wrong, so that the rest can be looked at: values that lead to no file.
_STAND_INS = {"name": "unnamed", "model_name_or_path": "unnamed", "output_dir": "unnamed"}


def _without_mistakes(data: Mapping[str, Any], error: ValidationError) -> Curriculum | None:
    rest = copy.deepcopy(dict(data))
    for details in error.errors(include_url=False):
        _drop(rest, tuple(details["loc"]))
    for index, (_, stage) in enumerate(stages(rest), 1):
        stage.setdefault("name", f"stage-{index}")
    try:
        return Curriculum.model_validate(_STAND_INS | rest)
    except ValidationError:
        return None


def _drop(data: Any, path: DataPath) -> None:
    """Remove the key at `path`, or the nearest above it: where the path ends in a list, or text stands for parts."""
    holder, last = data, path[0]
    for step in path:
        if isinstance(data, dict):
            holder, last = data, step
            data = data.get(step)
        else:
            data = data[step] if isinstance(data, list) and isinstance(step, int) else None
    holder.pop(last, None)


def _spec_findings(error: ValidationError) -> Iterator[Finding]:
    for details in error.errors(include_url=False):
        path = tuple(details["loc"])
        if details["type"] == "extra_forbidden":
            known = suggestion(str(path[-1]), _model_at(path[:-1]).model_fields)
            yield Finding(path, f"unknown key `{path[-1]}`{known}", _SEE, at_key=True)
        elif details["type"] == "missing":
            above = [key for key in path[:-1] if isinstance(key, str)]
            owner = f"`{above[-1]}`" if above else "the curriculum"
            yield Finding(path, f"`{path[-1]}` is missing, expected it in {owner}", _SEE)
        else:
            yield _wrong_value(path, details)


def _wrong_value(path: DataPath, details: ErrorDetails) -> Finding:
    found = _describe(details["input"])
    hint = None
    if details["type"] == "greater_than_equal" and path[-1] in ("steps", "until_step"):
        hint = "`steps` counts this stage alone, `until_step` from the start of the curriculum"
    elif details["type"] == "string_type" and isinstance(details["input"], (bool, int, float)):
        hint = "quote it to make it text"
    elif details["type"] == "int_type" and isinstance(details["input"], str) and details["input"].isdecimal():
        hint = "a number is written without quotes"
    elif details["type"] == "literal_error":
        choices = re.findall(r"'([^']+)'", details["ctx"]["expected"])
        close = difflib.get_close_matches(str(details["input"]), choices, n=1)
        hint = f"did you mean `{close[0]}`?" if close else None
    words = [str(key) for key in path if isinstance(key, str)]
    return Finding(path, f"`{words[-1]}`: found {found}, expected {_expected(details)}", hint)


def _expected(details: ErrorDetails) -> str:
    context = details.get("ctx", {})
    if details["type"] == "literal_error":
        return str(context["expected"]).replace("'", "`")
    for kind, key, words in _LIMITS:
        if details["type"] == kind:
            return f"{words} {context[key]:g}"
    return _EXPECTED.get(details["type"], details["msg"])


def _describe(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value[:60]}" (text)'
    if isinstance(value, (int, float)):
        return str(value)
    return "a list" if isinstance(value, list) else "a mapping"


def _model_at(path: DataPath) -> type[BaseModel]:
    """The model that holds the keys at `path`."""
    if path[:2] == ("data", "mixtures") or (path[:1] == ("stages",) and path[2:3] == ("data",)):
        return Part
    kinds: dict[str, type[BaseModel]] = {
        "stages": Stage,
        "data": DataSpec,
        "datasets": Dataset,
        "tiers": Tiers,
        "launcher": Launcher,
        "handover": HandoverSpec,
        "prepare": Prepare,
        "evaluate": Evaluate,
        "retries": Retries,
        "hang": Hang,
    }
    return next((kinds[key] for key in reversed(path) if isinstance(key, str) and key in kinds), Curriculum)
