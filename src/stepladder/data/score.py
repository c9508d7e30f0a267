"""Difficulty of a dataset's samples, as a column: `stepladder data score`.

`loss` and `length` are measured by the built-in trainer with a model; `mask_area` counts the pixels of the object's
mask; anything else is an SQL expression over the sample's fields. The file is a dataset's `scores:`.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from stepladder.data.columns import described
from stepladder.data.condition import ExpressionError, check_condition
from stepladder.data.measuring import argv_of
from stepladder.data.mixture import Mixture, Part, Source
from stepladder.data.records import Store
from stepladder.data.samples import PROBLEMS_SHOWN
from stepladder.data.select import make_selection
from stepladder.data.selection import FILE
from stepladder.data.sql import connect
from stepladder.data.store import open_store
from stepladder.errors import PlanError, Problem, RunError
from stepladder.planning.plan import PlannedStage

#: Measured with a model; any other `by` needs none.
WITH_MODEL = ("loss", "length")
MASK_AREA = "mask_area"

#: The column of an expression, which has no name of its own.
EXPRESSION = "score"

#: Masks that are asked for at once.
_CHUNK = 1024


@dataclass(frozen=True)
class Scores:
    """What was written.

    Attributes:
        column: its name in the file.
        samples: how many have a value.
        missing: how many have none: no mask, or null.
        least, median, most: of the values; None where there are none.
    """

    column: str
    samples: int
    missing: int
    least: float | None
    median: float | None
    most: float | None


def score(source: Source, cache: Path, by: str, out: Path, model: str, stage: PlannedStage | None) -> Scores:
    """Score every sample of a dataset and write `id` and the value to a Parquet file.

    Args:
        source: the dataset; its own `scores` and `tiers` are not looked at.
        cache: folder of the stores.
        by: loss, length, mask_area, or an SQL expression.
        out: the file; one of the same samples keeps its other columns.
        model: folder or hub name, for loss and length.
        stage: whose interpreter and arguments (`max_tiles`, ...) hold for loss and length.

    Raises:
        PlanError: a dataset, mask, expression or file that cannot be used. RunError: the measuring process failed.
    """
    others = _others(out)
    column = by if by in (*WITH_MODEL, MASK_AREA) else EXPRESSION
    if by in WITH_MODEL:
        found = _measured(source, cache, by, model, stage)
    else:
        store = open_store(source, cache, "refuse")
        values = _mask_areas(store) if by == MASK_AREA else _values(store, by)
        found = pa.table({"id": store.fields.column("id"), column: values})
    _write(out, found, others)
    values = found.column(column)
    return _summary(column, values, values.null_count)


def _others(out: Path) -> pa.Table | None:
    """The scores that a file has already; None where there is none. Raises PlanError for a file of another kind."""
    if not out.exists():
        return None
    try:
        table = pq.read_table(out)
    except (OSError, pa.ArrowException) as error:
        text = f"is there already and no Parquet file: {str(error).splitlines()[0]}"
        raise PlanError([Problem(str(out), text, "name another file with --out")]) from None
    if "id" not in table.column_names:
        raise PlanError([Problem(str(out), "is there already, without a column `id`", "name another file with --out")])
    return table


def _write(out: Path, found: pa.Table, others: pa.Table | None) -> None:
    """Write the new column beside those that a file of the same samples has; appears whole or not at all.

    Raises PlanError for a file that scores other samples.
    """
    if others is not None:
        places = pc.index_in(found.column("id"), value_set=others.column("id").cast(pa.string()))
        if places.null_count or len(others) != len(found):
            hint = "name another file with --out, or delete this one"
            raise PlanError([Problem(str(out), "is there already, with the scores of other samples", hint)])
        for name in others.column_names:
            if name not in found.column_names:
                found = found.append_column(name, others.column(name).take(places))
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    pq.write_table(found, partial)
    partial.replace(out)


def _summary(column: str, values: pa.ChunkedArray, missing: int) -> Scores:
    known = sorted(value for value in values.to_pylist() if value is not None)
    if not known:
        return Scores(column, 0, missing, None, None, None)
    return Scores(column, len(known), missing, known[0], known[len(known) // 2], known[-1])


def _measured(source: Source, cache: Path, by: str, model: str, stage: PlannedStage | None) -> pa.Table:
    if stage is None:
        hint = "give the curriculum a stage with `data:` and the built-in trainer"
        raise PlanError([Problem(f"--by {by}", "no stage says how samples are made into tokens", hint)])
    whole = Part(replace(source, scores=None, tiers=None), None, None, None, None, 1, None)
    with tempfile.TemporaryDirectory(prefix="stepladder-score-") as scratch:
        selection = make_selection(Mixture(source.name, (whole,), 0, "refuse"), cache, Path(scratch) / "all")
        out = Path(scratch) / "scores.parquet"
        argv = argv_of(stage, model, selection.path / FILE, out, by)
        done = subprocess.run(argv, env={**os.environ, **stage.env}, stdout=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            text = f"measuring {source.name} by {by} ended with exit code {done.returncode}"
            raise RunError(text, hint="what it said stands above")
        return pq.read_table(out)


def _values(store: Store, expression: str) -> pa.Array:
    """The value of an SQL expression for every row; numbers only."""
    with closing(connect()) as connection:
        connection.register("fields", store.fields)
        try:
            check_condition(connection, expression, store.fields.schema)
            query = f'SELECT ({expression}\n)::DOUBLE AS value FROM fields ORDER BY "row"'
            found: pa.Array = connection.sql(query).to_arrow_table().column("value").combine_chunks()
        except (ExpressionError, duckdb.Error) as error:
            text, hint = described(error)
            raise PlanError([Problem(f"--by {expression}", text, hint)]) from None
    return found


def _mask_areas(store: Store) -> pa.Array:
    """Set pixels of each sample's `meta.mask_b`, else its `meta.mask_area`; null where it has neither."""
    found: list[int | None] = []
    problems: list[Problem] = []
    # Pillow decodes without the interpreter's lock, so threads are enough.
    with ThreadPoolExecutor() as pool:
        for first in range(0, store.rows, _CHUNK):
            rows = range(first, min(first + _CHUNK, store.rows))
            for area in pool.map(_area, [store] * len(rows), rows):
                if isinstance(area, Problem):
                    problems.append(area)
                else:
                    found.append(area)
    if problems:
        raise PlanError(problems[:PROBLEMS_SHOWN])
    return pa.array(found, pa.int64())


def _area(store: Store, row: int) -> int | Problem | None:
    """An area in pixels, None without a mask."""
    meta = store.record(row).get("meta") or {}
    if not meta.get("mask_b"):
        area = meta.get("mask_area")
        return area if isinstance(area, int) else None
    try:
        with Image.open(store.folder / meta["mask_b"]) as mask:
            return mask.width * mask.height - mask.convert("L").histogram()[0]
    except (OSError, ValueError) as error:
        text = f"sample {store.id(row)}: mask {meta['mask_b']} cannot be read: {error}"
        return Problem(store.where(row), text, "repair the mask")
