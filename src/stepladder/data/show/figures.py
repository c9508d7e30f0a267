"""A selection in figures: samples by part, by tier and by length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from stepladder.data.selection import SelectedPart, Selection

#: Columns that say of which kind a sample is; `tier` is cut by `tiers` of a dataset.
TIER_COLUMNS = ("meta.is_neg", "meta.neg_type", "tier")

#: Bars of a histogram.
BINS = 12


@dataclass(frozen=True)
class Kind:
    """Samples of one kind.

    Attributes:
        column: one of `TIER_COLUMNS`.
        value: as text; "-" where the column is empty.
        samples: how many are selected, repeats not counted.
        share: of all positions, from 0 to 1.
    """

    column: str
    value: str
    samples: int
    share: float


@dataclass(frozen=True)
class Bin:
    """Samples of `first` to `last` characters."""

    first: int
    last: int
    samples: int


def shares(selection: Selection) -> list[float]:
    """The share of all positions of each part."""
    total = sum(part.share for part in selection.parts)
    return [part.share / total for part in selection.parts]


def kinds(selection: Selection, columns: Sequence[pa.Table]) -> list[Kind]:
    """Samples by each of `TIER_COLUMNS` that a part's dataset has.

    Args:
        selection: what a stage trains on.
        columns: of each part's store, with scores and tiers.
    """
    found: dict[tuple[str, str], tuple[int, float]] = {}
    for part, table, share in zip(selection.parts, columns, shares(selection), strict=True):
        for name in TIER_COLUMNS:
            values = _column(table, name)
            counts = [] if values is None else pc.value_counts(values.take(pa.array(part.rows))).to_pylist()
            for item in counts:
                key = name, _text(item["values"])
                samples, of_all = found.get(key, (0, 0.0))
                found[key] = samples + item["counts"], of_all + share * item["counts"] / part.count
    order = sorted(found, key=lambda key: (TIER_COLUMNS.index(key[0]), key[1]))
    return [Kind(*key, *found[key]) for key in order]


def lengths(selection: Selection) -> list[Bin]:
    """Samples by the characters of all their turns; see `bins`."""
    return bins(np.concatenate([_characters(part) for part in selection.parts]))


def bins(values: npt.NDArray[np.int64]) -> list[Bin]:
    """Whole numbers (at least one) in bins of equal width up to the 99th percentile.

    The last bin also holds what is longer; bins that hold nothing are left out.
    """
    first, last, longest = int(values.min()), int(np.quantile(values, 0.99)), int(values.max())
    edges = np.unique(np.linspace(first, last + 1, BINS + 1).astype(np.int64))
    counts = np.histogram(np.minimum(values, last), edges)[0].tolist()
    ends = [*(edge - 1 for edge in edges[1:-1].tolist()), longest]
    found = zip(edges[:-1].tolist(), ends, counts, strict=True)
    return [Bin(start, end, count) for start, end, count in found if count]


def _characters(part: SelectedPart) -> Any:
    return part.store.fields["characters"].to_numpy()[part.rows]


def _column(table: pa.Table, name: str) -> pa.ChunkedArray | None:
    head, _, rest = name.partition(".")
    if head not in table.column_names:
        return None
    column = table[head]
    if not rest:
        return column
    known = [field.name for field in column.type] if pa.types.is_struct(column.type) else []
    return pc.struct_field(column, rest) if rest in known else None


def _text(value: Any) -> str:
    return "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
