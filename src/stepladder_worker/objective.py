"""The weights that another objective's model takes over: those of the same name and shape. Standard library only.

A reward model has a head where the language model before it has another one, so the two need not agree by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class TakenOver:
    """Names of parameters on both sides of such a boundary.

    Attributes:
        common: on both sides, with the same shape.
        new: of the new model alone, or of another shape there.
        dropped: of the old model alone, or of another shape there.
    """

    common: tuple[str, ...]
    new: tuple[str, ...]
    dropped: tuple[str, ...]

    def __str__(self) -> str:
        """`20 parameters taken over, 1 new (score.weight), 0 dropped`."""
        new, dropped = _examples(self.new), _examples(self.dropped)
        counts = f"{len(self.common)} parameters taken over, {len(self.new)} new{new}"
        return f"{counts}, {len(self.dropped)} dropped{dropped}"


def taken_over(saved: Mapping[str, str], now: Mapping[str, str]) -> TakenOver:
    """Compare two models by the fingerprints of their weights (`float32[64, 32]:9f...`), by name."""
    common = dict.fromkeys(name for name in now if name in saved and _shape(saved[name]) == _shape(now[name]))
    return TakenOver(
        common=tuple(common),
        new=tuple(name for name in now if name not in common),
        dropped=tuple(name for name in saved if name not in common),
    )


def expected(saved: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """What the new model must start with: what it takes over as saved, the rest as the script made it."""
    return {**now, **{name: saved[name] for name in taken_over(saved, now).common}}


def _examples(names: tuple[str, ...]) -> str:
    return f" ({names[0]}{', ...' if names[1:] else ''})" if names else ""


def _shape(fingerprint: str) -> str:
    return fingerprint[fingerprint.index("[") : fingerprint.index("]")]
