"""YAML to spec: every error at once, each with its line and column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from stepladder import check_args, checks, yaml_source
from stepladder.errors import CurriculumError
from stepladder.spec import Curriculum, Evaluate, HandoverSpec, Launcher, Prepare, Stage
from stepladder.yaml_source import DataPath, Document, Finding, suggestion

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
_SEE = "docs/curriculum.md lists every key"


@dataclass(frozen=True)
class Loaded:
    """A sound curriculum and the document that knows where its values were written."""

    curriculum: Curriculum
    document: Document


def load(file: str, overrides: Sequence[str] = ()) -> Loaded:
    """Read a curriculum, with `KEY=VALUE` overrides applied.

    Raises CurriculumError with every problem that the file and the overrides show.
    """
    document = yaml_source.read(file)
    problems = document.override(overrides)
    findings = [*checks.findings(document.data), *check_args.findings(document.data)]
    try:
        curriculum = Curriculum.model_validate(document.data)
    except ValidationError as error:
        findings += _spec_findings(error)
    problems += document.problems(findings)
    if problems:
        raise CurriculumError(problems)
    return Loaded(curriculum, document)


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
    if details["type"] == "string_type" and isinstance(details["input"], (bool, int, float)):
        hint = "quote it to make it text"
    elif details["type"] == "int_type" and isinstance(details["input"], str) and details["input"].isdecimal():
        hint = "a number is written without quotes"
    words = [str(key) for key in path if isinstance(key, str)]
    return Finding(path, f"`{words[-1]}`: found {found}, expected {_expected(details)}", hint)


def _expected(details: ErrorDetails) -> str:
    context = details.get("ctx", {})
    if details["type"] == "literal_error":
        return str(context["expected"]).replace("'", "`")
    if details["type"] == "greater_than_equal":
        return f"at least {context['ge']}"
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
    kinds: dict[str, type[BaseModel]] = {
        "stages": Stage,
        "launcher": Launcher,
        "handover": HandoverSpec,
        "prepare": Prepare,
        "evaluate": Evaluate,
    }
    return next((kinds[key] for key in reversed(path) if isinstance(key, str) and key in kinds), Curriculum)
