"""The answer of the pointing task as text: ``[(x, y)]``, x and y in [0, 1] of the image, or ``NOT_VISIBLE``; pure."""

from __future__ import annotations

import re

NOT_VISIBLE = "NOT_VISIBLE"

#: x and y as fractions of the image's width and height, from its top left.
Point = tuple[float, float]

EXPECTED = f"[(x, y)] with x and y in [0, 1], or {NOT_VISIBLE}"

_NUMBER = r"(-?[0-9]+(?:\.[0-9]+)?)"
#: One point, wherever it lies. Also a pattern of RE2, so that DuckDB and Arrow can look for it.
POINT_PATTERN = rf"\s*\[\(\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\)\]\s*"
_POINT = re.compile(POINT_PATTERN)


def read_answer(text: str) -> Point | str | None:
    """A point, which may lie outside [0, 1], or NOT_VISIBLE; None for a text that is neither."""
    match = _POINT.fullmatch(text)
    if match is not None:
        return float(match[1]), float(match[2])
    return NOT_VISIBLE if text.strip() == NOT_VISIBLE else None


def format_point(x: float, y: float) -> str:
    """A point as a model would write it, and as samples have it: with three decimals."""
    return f"[({x:.3f}, {y:.3f})]"


def inside(point: Point) -> bool:
    """Whether both coordinates lie in [0, 1]."""
    return all(0 <= value <= 1 for value in point)
