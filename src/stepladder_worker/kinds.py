"""Whether values read from JSON are of the kinds that a dataclass says its plain fields have.

Standard library only, Python 3.10 and newer.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from typing import Any

#: No step, time or process is beyond it, and every float library takes it.
_LARGEST = 2**63 - 1


def wrong(cls: type[Any], values: Mapping[str, Any]) -> str | None:
    """The first field whose value is of another kind, in words; None when all fit.

    Fields of text, whole numbers, numbers, booleans, objects and None are looked at. A whole number is a number too,
    and true is none.
    """
    for name, annotation in typing.get_type_hints(cls).items():
        kinds = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
        if not any(_fits(values[name], typing.get_origin(kind) or kind) for kind in kinds):
            expected = " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
            return f"{name} is {json.dumps(values[name])[:40]}, expected {expected}"
    return None


def _fits(value: Any, kind: type[Any]) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if isinstance(value, int):
        return kind in (int, float) and abs(value) <= _LARGEST
    return isinstance(value, kind)
