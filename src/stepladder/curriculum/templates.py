"""Texts of a curriculum with `{fields}` that are filled in: directories of stages, words of commands."""

from __future__ import annotations

import re

from stepladder import paths

_FIELD = re.compile(r"\{([A-Za-z_]+)\}")


def stage_directory(template: str | None, output_dir: str, index: int, name: str) -> str:
    """The directory of stage `index` (from 1), as written in the template and without a trailing slash."""
    if template is None:
        return paths.default_stage_dir(output_dir, index, name)
    return fill(template, index=str(index), name=name, output_dir=output_dir.rstrip("/") or "/").rstrip("/")


def fill(template: str, **values: str) -> str:
    """Replace `{key}` for the given keys; other braces (JSON in an argument) stay."""
    return _FIELD.sub(lambda field: values.get(field[1], field[0]), template)


def fields_in(template: str) -> list[str]:
    """The names of the fields in a template."""
    return _FIELD.findall(template)
