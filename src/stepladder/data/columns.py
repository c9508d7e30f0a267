"""The columns that selection sees: a store's own, with scores joined by id and tiers cut by quantile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stepladder.data.condition import ExpressionError, check_condition
from stepladder.data.mixture import Source, Tiers
from stepladder.data.records import Store
from stepladder.data.sql import connect

_SCORE_HINT = "`stepladder data score` writes such files"


class ColumnError(ExpressionError):
    """Scores or tiers of a dataset that cannot be used.

    Attributes:
        field: `scores` or `tiers.by`, of the dataset.
    """

    def __init__(self, field: str, text: str, hint: str | None = None) -> None:
        super().__init__(text, hint)
        self.field = field


def columns_of(source: Source, store: Store) -> tuple[pa.Table, int]:
    """(the store's columns with those of `scores` and `tier`, samples that have no score).

    Samples without a score have nulls there, and a null tier.

    Raises:
        ColumnError: scores that cannot be read, lack `id`, name a sample twice or have a column that is there already;
            a `tiers.by` that is no number over the columns.
    """
    table, missing = store.fields, 0
    if source.scores is not None:
        table, missing = _scored(table, Path(source.scores).expanduser())
    if source.tiers is not None:
        table = table.append_column("tier", _tiers(table, source.tiers))
    return table, missing


def _scored(table: pa.Table, path: Path) -> tuple[pa.Table, int]:
    try:
        scores = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        text = f"{path} cannot be read: {str(error).splitlines()[0]}"
        raise ColumnError("scores", text, f"name a Parquet file; {_SCORE_HINT}") from None
    taken = {name.lower() for name in table.column_names}
    double = [name for name in scores.column_names if name.lower() in (taken - {"id"}) | {"tier"}]
    if "id" not in scores.column_names or double:
        found = f"columns that the samples have already: {', '.join(double)}" if double else "no column `id`"
        raise ColumnError("scores", f"{path} has {found}; expected `id` and columns of new names", _SCORE_HINT)
    ids = scores.column("id").cast(pa.string())
    counts = pc.value_counts(ids)
    if len(counts) < len(ids):
        twice = counts.filter(pc.greater(pc.struct_field(counts, "counts"), 1))[0].as_py()
        text = f"{path} has sample {twice['values']} {twice['counts']} times, expected each once"
        raise ColumnError("scores", text, _SCORE_HINT)
    places = pc.index_in(table.column("id"), value_set=ids)
    if places.null_count == len(table):
        first = table.column("id")[0].as_py()
        raise ColumnError("scores", f"{path} scores none of the samples, the first of which is {first}", _SCORE_HINT)
    for name in scores.column_names:
        if name != "id":
            table = table.append_column(name, scores.column(name).take(places))
    return table, places.null_count


def token_lengths(source: Source, store: Store, columns: pa.Table) -> npt.NDArray[np.int32] | None:
    """Tokens of every row of a store, -1 where they are not known; None unless scores bring whole numbers as `length`.

    A sample's own field of that name may count anything. `columns`: what `columns_of` gave.
    """
    if source.scores is None or "length" in store.fields.column_names or "length" not in columns.column_names:
        return None
    found = columns.column("length")
    if not pa.types.is_integer(found.type):
        return None
    tokens = found.cast(pa.float64(), safe=False).fill_null(-1).to_numpy()
    clipped: npt.NDArray[np.int32] = np.clip(tokens, -1, np.iinfo(np.int32).max).astype(np.int32)
    return clipped


def _tiers(table: pa.Table, tiers: Tiers) -> pa.Array:
    connection = connect()
    connection.register("fields", table)
    try:
        check_condition(connection, tiers.by, table.schema)
        found = connection.sql(f'SELECT "row", ({tiers.by}\n) AS value FROM fields ORDER BY "row"').to_arrow_table()
        value = found.column("value")
        if not (pa.types.is_integer(value.type) or pa.types.is_floating(value.type) or pa.types.is_decimal(value.type)):
            raise ColumnError("tiers.by", f"expected a number, found {value.type}", "cast a text: meta.area::DOUBLE")
        values = value.cast(pa.float64()).to_numpy()
    except (ExpressionError, duckdb.Error) as error:
        raise ColumnError("tiers.by", *described(error)) from None
    finally:
        connection.close()
    numbers, absent = cut(values, tiers.at), np.isnan(values)
    return pa.array(numbers, mask=absent)


def cut(values: npt.NDArray[np.float64], at: Sequence[float]) -> npt.NDArray[np.int64]:
    """The tier of each value, from 0: how many of the quantiles `at` it exceeds; NaN counts for none and gets 0.

    The quantile q of n values is the smallest that at least q * n of them do not exceed (inverse of the empirical
    distribution; Hyndman and Fan, 1996, definition 1), so equal values are never parted.
    """
    known = np.sort(values[~np.isnan(values)])
    if not len(known):
        return np.zeros(len(values), np.int64)
    cuts = [known[math.ceil(Fraction(str(quantile)) * len(known)) - 1] for quantile in at]
    tiers = np.searchsorted(np.array(cuts), values, side="left").astype(np.int64)
    tiers[np.isnan(values)] = 0
    return tiers


def described(error: Exception) -> tuple[str, str | None]:
    """(text, hint) of what DuckDB or the check of an expression says."""
    if isinstance(error, ExpressionError):
        return error.text, error.hint
    first, *rest = str(error).splitlines()
    meant = next((line for line in rest if line.startswith("Did you mean")), None)
    if meant is None and first.startswith("Conversion Error"):
        return first, "text stands in single quotes, and is compared with text: id = '3'"
    return first, meant
