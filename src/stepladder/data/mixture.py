"""A mixture: which samples a stage trains on, as plain frozen values. Standard library only.

`resolve` turns what a person wrote (spec.DataSpec and a list of parts) into a `Mixture`; what a mixture selects from
the files is `select.py`'s.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import Any

from stepladder.curriculum.spec import DataSpec
from stepladder.curriculum.spec import Part as WrittenPart

_TERM = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)\s*(?:\*\s*(\d+(?:\.\d+)?)\s*)?")
_EXPECTED = "names joined by `+`, each with a whole number of repeats or a share below 1: `a + b*3 + c*0.25`"


#: Where the curriculum file has something, as keys and indices.
Place = tuple[str | int, ...]


class MixtureError(ValueError):
    """An expression or a name that gives no mixture; the message says what was found and expected."""


@dataclass(frozen=True)
class Tiers:
    """The column `tier`, from 0: how many of the quantiles `at` of `by` (column or expression) a sample exceeds."""

    by: str
    at: tuple[float, ...]


@dataclass(frozen=True)
class Source:
    """A dataset: see spec.Dataset."""

    name: str
    path: str
    format: str | None
    scores: str | None
    tiers: Tiers | None
    image_folder: str | None = None


@dataclass(frozen=True)
class Part:
    """Some samples of one dataset: see spec.Part. `at` is where the curriculum file has it, for messages."""

    source: Source
    where: str | None
    fraction: float | None
    count: int | None
    weight: float | None
    repeat: int
    order_by: str | None
    at: Place = ()


@dataclass(frozen=True)
class Mixture:
    """What a stage trains on.

    Attributes:
        name: for people: the mixture's name, or the expression that was written.
        parts: at least one.
        seed: of every draw: fractions, counts and the order.
        on_bad_sample: "refuse" or "skip".
    """

    name: str
    parts: tuple[Part, ...]
    seed: int
    on_bad_sample: str

    @property
    def key(self) -> str:
        """Names the order: equal for the same parts, whatever the mixture is called and wherever its files lie."""
        parts = [
            asdict(part) | {"source": part.source.name, "tiers": part.source.tiers, "at": None} for part in self.parts
        ]
        return hashlib.blake2b(json.dumps(parts, default=asdict).encode(), digest_size=16).hexdigest()

    @property
    def sources(self) -> dict[str, Source]:
        """Its datasets by name."""
        return {part.source.name: part.source for part in self.parts}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Mixture:
        """A mixture that was written with `asdict`; raises KeyError or TypeError on missing or unknown fields."""
        return cls(**{**data, "parts": tuple(map(_part_from_json, data["parts"]))})


def _part_from_json(data: Mapping[str, Any]) -> Part:
    tiers = data["source"]["tiers"]
    found = None if tiers is None else Tiers(tiers["by"], tuple(tiers["at"]))
    return Part(**{**data, "source": Source(**{**data["source"], "tiers": found}), "at": tuple(data["at"])})


def resolve(data: DataSpec, written: Sequence[WrittenPart], at: Place) -> Mixture:
    """The mixture that parts make, their expressions and the mixtures they name taken apart.

    Args:
        data: the datasets and mixtures there are.
        written: the parts of a stage or of a named mixture.
        at: where the curriculum file has them.

    Raises MixtureError for an unknown name, for what is no expression, and for mixtures that contain themselves.
    """
    name = " + ".join(part.dataset for part in written)
    return Mixture(name, tuple(_parts(data, written, at, ())), data.seed, data.on_bad_sample)


def terms(expression: str) -> list[tuple[str, float]]:
    """(name, factor) of every term of `a + b*3`; raises MixtureError."""
    found = []
    for text in expression.split("+"):
        match = _TERM.fullmatch(text.strip())
        if match is None:
            raise MixtureError(f"found {expression!r}, expected {_EXPECTED}")
        factor = float(match[2] or 1)
        if factor == 0 or (factor > 1 and not factor.is_integer()):
            raise MixtureError(f"found a factor of {match[2]} in {expression!r}, expected {_EXPECTED}")
        found.append((match[1], factor))
    return found


def _parts(data: DataSpec, written: Sequence[WrittenPart], at: Place, above: tuple[str, ...]) -> Iterator[Part]:
    for index, item in enumerate(written):
        if item.model_fields_set - {"dataset"}:
            yield _part(data, item, (*at, index))
            continue
        for name, factor in terms(item.dataset):
            for part in _named(data, name, (*at, index), above):
                yield _times(part, factor, item.dataset)


def _named(data: DataSpec, name: str, at: Place, above: tuple[str, ...]) -> Iterator[Part]:
    if name in above:
        raise MixtureError(f"mixture `{name}` contains itself: {' -> '.join((*above, name))}")
    if name in data.mixtures:
        yield from _parts(data, data.mixtures[name], ("data", "mixtures", name), (*above, name))
    elif name in data.datasets:
        yield _part(data, WrittenPart(dataset=name), at)
    else:
        raise UnknownNameError(name, (*data.mixtures, *data.datasets))


class UnknownNameError(MixtureError):
    """Neither a mixture nor a dataset.

    Attributes:
        name: what was written.
        known: what there is.
    """

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"unknown mixture or dataset `{name}`")
        self.name = name
        self.known = known


def _part(data: DataSpec, written: WrittenPart, at: Place) -> Part:
    if written.dataset not in data.datasets:
        raise UnknownNameError(written.dataset, tuple(data.datasets))
    values = written.model_dump(exclude={"dataset"})
    return Part(source(data, written.dataset), **values, at=at)


def _times(part: Part, factor: float, expression: str) -> Part:
    if factor >= 1:
        return replace(part, repeat=part.repeat * int(factor))
    if part.count is not None:
        raise MixtureError(f"`*{factor:g}` in {expression!r} of a part with a count, expected a whole number")
    # As written, in decimal: 0.7 * 0.1 of floats is less than 0.07.
    fraction = Decimal(repr(1.0 if part.fraction is None else part.fraction)) * Decimal(repr(factor))
    return replace(part, fraction=float(fraction))


def source(data: DataSpec, name: str) -> Source:
    """The dataset of a name, which must be there."""
    written = data.datasets[name]
    tiers = None if written.tiers is None else Tiers(written.tiers.by, tuple(written.tiers.at))
    return Source(name, written.path, written.format, written.scores, tiers, written.image_folder)
