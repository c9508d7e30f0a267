"""The last line of an output that is a JSON object, kept while the output passes by."""

from __future__ import annotations

import json
import math
from typing import Any

#: A longer line is no result. It also bounds what is held of an output.
MOST_BYTES = 1 << 20


class LastObject:
    """Sees an output line by line, in pieces of at most `MOST_BYTES`.

    Attributes:
        value: the last JSON object, or None. Numbers that JSON does not have (NaN, Infinity) are None in it.
        odd: where those stood, as keys joined by dots.
    """

    def __init__(self) -> None:
        self.value: dict[str, Any] | None = None
        self.odd: list[str] = []
        self._inside = False

    def see(self, piece: bytes) -> None:
        """One line with its end, or a piece of a longer one."""
        whole = not self._inside and len(piece) < MOST_BYTES
        self._inside = not piece.endswith(b"\n")
        if not whole or not piece.lstrip().startswith(b"{"):
            return
        try:
            value = json.loads(piece)
            odd: list[str] = []
            found = _finite(value, (), odd)
        except (ValueError, RecursionError):
            return
        self.value, self.odd = found, odd


def _finite(value: Any, path: tuple[str, ...], odd: list[str]) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item, (*path, key), odd) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item, (*path, str(index)), odd) for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        odd.append(".".join(path))
        return None
    return value
