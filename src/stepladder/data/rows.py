"""Rows of a table of fields: those a condition leaves, a draw that is the same everywhere, an order.

A draw takes the first samples by the rank of a hash of seed and sample id. So a fraction is part of every larger one,
a sample's rank does not depend on the others, and neither DuckDB's version nor its threads play a part.
"""

from __future__ import annotations

import math
from fractions import Fraction

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stepladder.data.condition import check_condition, check_order
from stepladder.data.sql import literal

Rows = npt.NDArray[np.int64]


def matching(connection: duckdb.DuckDBPyConnection, where: str | None, columns: pa.Schema) -> Rows:
    """Rows of the registered table `fields` for which the condition is true, rising; all without one.

    Raises ExpressionError or duckdb.Error for a condition that cannot be run.
    """
    condition = ""
    if where is not None:
        check_condition(connection, where, columns)
        condition = f"WHERE (\n{where}\n)"
    return _rows(connection, f'SELECT "row" FROM fields {condition} ORDER BY "row"')


def drawn(connection: duckdb.DuckDBPyConnection, rows: Rows, seed: int, count: int) -> Rows:
    """The first `count` of the rows by rank: MD5 of `SEED:ID`, as text, then the row."""
    connection.register("chosen", pa.table({"row": rows}))
    return _rows(
        connection,
        f"""SELECT "row" FROM fields SEMI JOIN chosen USING ("row")
            ORDER BY left(md5({literal(f"{seed}:")} || id), 16), "row" LIMIT {count}""",
    )


def ordered(connection: duckdb.DuckDBPyConnection, rows: Rows, order_by: str, columns: pa.Schema) -> Rows:
    """The rows sorted by expressions, nulls last, equal ones by row.

    Raises ExpressionError or duckdb.Error for an order that cannot be.
    """
    check_order(connection, order_by, columns)
    connection.register("chosen", pa.table({"row": rows}))
    return _rows(
        connection,
        f'SELECT fields."row" FROM fields SEMI JOIN chosen USING ("row") ORDER BY\n{order_by}\n, fields."row"',
    )


def share_of(fraction: float, rows: int) -> int:
    """How many of the rows a fraction is: as written in decimal, rounded half up, at least one."""
    return max(1, math.floor(Fraction(repr(fraction)) * rows + Fraction(1, 2)))


def _rows(connection: duckdb.DuckDBPyConnection, query: str) -> Rows:
    found: Rows = connection.execute(query).fetchnumpy()["row"].astype(np.int64)
    return found
