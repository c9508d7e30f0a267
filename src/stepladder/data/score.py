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
import pyarrow.parquet as pq
from PIL import Image

from stepladder.data.check.measuring import argv_of
from stepladder.data.columns import described
from stepladder.data.condition import ExpressionError, check_condition
from stepladder.data.mixture import Mixture, Part, Source
from stepladder.data.records import Store
from stepladder.data.samples import PROBLEMS_SHOWN
from stepladder.data.select import make_selection
from stepladder.data.selection import FILE
from stepladder.data.sql import connect
from stepladder.data.store import open_store
from stepladder.errors import PlanError, Problem, RunError
from stepladder.plan import PlannedStage

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
        out: the file; appears whole or not at all.
        model: folder or hub name, for loss and length.
        stage: whose interpreter and arguments (`max_tiles`, ...) hold for loss and length.

    Raises:
        PlanError: a dataset, mask or expression that cannot be used. RunError: the measuring process failed.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    if by in WITH_MODEL:
        _measure(source, cache, by, out, model, stage)
        return _summary(by, pq.read_table(out).column(by), 0)
    store = open_store(source, cache, "refuse")
    values = _mask_areas(store) if by == MASK_AREA else _values(store, by)
    column = by if by == MASK_AREA else EXPRESSION
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    pq.write_table(pa.table({"id": store.fields.column("id"), column: values}), partial)
    partial.replace(out)
    return _summary(column, pa.chunked_array([values]), values.null_count)


def _summary(column: str, values: pa.ChunkedArray, missing: int) -> Scores:
    known = sorted(value for value in values.to_pylist() if value is not None)
    if not known:
        return Scores(column, 0, missing, None, None, None)
    return Scores(column, len(known), missing, known[0], known[len(known) // 2], known[-1])


def _measure(source: Source, cache: Path, by: str, out: Path, model: str, stage: PlannedStage | None) -> None:
    if stage is None:
        hint = "give the curriculum a stage with `data:` and the built-in trainer"
        raise PlanError([Problem(f"--by {by}", "no stage says how samples are made into tokens", hint)])
    whole = Part(replace(source, scores=None, tiers=None), None, None, None, None, 1, None)
    with tempfile.TemporaryDirectory(prefix="stepladder-score-") as scratch:
        selection = make_selection(Mixture(source.name, (whole,), 0, "refuse"), cache, Path(scratch) / "all")
        argv = argv_of(stage, model, selection.path / FILE, out, by)
        done = subprocess.run(argv, env={**os.environ, **stage.env}, stdout=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise RunError(f"measuring {source.name} by {by} ended with exit code {done.returncode}", hint="see above")


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
