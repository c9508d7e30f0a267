"""What a person may write as `where`, `order_by` and `tiers.by`: one SQL expression over a sample's fields.

DuckDB parses it; its tree is checked before anything runs: columns that there are, no statement, subquery, window or
aggregate, and only functions that give the same for the same sample on every machine and every day. Beside that, the
connection it runs on sees no file and no network (sql.py).
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from typing import Any

import duckdb
import pyarrow as pa

from stepladder.data.fields import TURNS
from stepladder.data.sql import connect

#: How many columns a message lists.
_COLUMNS_SHOWN = 40

_ALLOWED = {
    "COLUMN_REF",
    "CONSTANT",
    "COMPARISON",
    "CONJUNCTION",
    "FUNCTION",
    "OPERATOR",
    "CASE",
    "CAST",
    "TYPE",
    "BETWEEN",
    "LAMBDA",
    "COLLATE",
}
_REFUSED = {
    "SUBQUERY": "a subquery",
    "WINDOW": "a window function",
    "PARAMETER": "a parameter",
    "STAR": "a star",
    "POSITIONAL_REFERENCE": "a column by number",
}

#: Macros have no stability of their own; these call pure functions only, as do those on lists.
_PURE_MACROS = {"date_add", "days_in_month", "fdiv", "fmod", "if", "json", "nullif", "split_part"}
_PURE_PREFIXES = ("list_", "array_")

#: Of these DuckDB says that they are consistent, and they read the clock or differ between versions.
_IMPURE = {"current_localtime", "current_localtimestamp", "version"}

#: Columns that `stepladder data score` writes.
_SCORES = ("length", "loss", "mask_area", "score")

#: What the samples' columns are a table of; `fields.id` is a column as well.
_TABLE = "fields"


class ExpressionError(ValueError):
    """An expression that cannot be run.

    Attributes:
        text: what was found and expected.
        hint: what to do about it, or None.
    """

    def __init__(self, text: str, hint: str | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.hint = hint


def check_condition(connection: duckdb.DuckDBPyConnection, condition: str, columns: pa.Schema) -> None:
    """Raise ExpressionError unless `condition` is one expression that may run over the columns."""
    node = _parsed(connection, condition, f"SELECT 1 FROM {_TABLE} WHERE (\n{{}}\n)")
    if node["modifiers"] or not node.get("where_clause"):
        raise ExpressionError("expected one condition and nothing after it")
    _check(node["where_clause"], columns)


def check_order(connection: duckdb.DuckDBPyConnection, order: str, columns: pa.Schema) -> None:
    """Raise ExpressionError unless `order` is a list of expressions, each with `desc` or not."""
    node = _parsed(connection, order, f"SELECT 1 FROM {_TABLE} ORDER BY\n{{}}\n")
    if [modifier["type"] for modifier in node["modifiers"]] != ["ORDER_MODIFIER"] or node.get("where_clause"):
        raise ExpressionError("expected columns or expressions, each with `desc` or not, and nothing after them")
    for entry in node["modifiers"][0]["orders"]:
        if entry["expression"]["class"] == "CONSTANT":
            raise ExpressionError(
                "a constant orders nothing", "write the column's name without quotes: `characters desc`"
            )
        _check(entry["expression"], columns)


def dotted_columns(columns: pa.Schema) -> list[str]:
    """Names a condition may use: `id`, `meta.is_neg`; an object's own name stands before its members."""
    return [name for field in columns for name in _dotted(field, "")]


def _dotted(field: pa.Field, before: str) -> Iterator[str]:
    name = before + field.name
    yield name
    if pa.types.is_struct(field.type):
        for inner in field.type:
            yield from _dotted(inner, f"{name}.")


def _parsed(connection: duckdb.DuckDBPyConnection, expression: str, frame: str) -> dict[str, Any]:
    """The statement's node; the expression must parse both within the frame's brackets and without them."""
    if any(kind == duckdb.token_type.comment for _, kind in duckdb.tokenize(expression)):
        raise ExpressionError("a comment in an expression", "write what it says as a comment of the YAML file")
    bare = frame.replace("(\n{}\n)", "{}")
    trees = [_tree(connection, text.replace("{}", expression)) for text in (frame, bare)]
    error = next((tree["error_message"] for tree in trees if tree["error"]), None)
    if error:
        raise ExpressionError(f"not an SQL expression: {error}", "see docs/data.md for conditions that work")
    statements = trees[0]["statements"]
    node: dict[str, Any] = statements[0]["node"] if len(statements) == 1 else {"type": "several statements"}
    if node["type"] != "SELECT_NODE" or node["cte_map"]["map"] or node.get("sample") or node.get("qualify"):
        raise ExpressionError("expected one expression, found a whole query or several statements")
    if node["group_expressions"] or node["having"] or node["from_table"].get("type") != "BASE_TABLE":
        raise ExpressionError("expected one expression, found clauses of a query")
    return node


def _tree(connection: duckdb.DuckDBPyConnection, statement: str) -> dict[str, Any]:
    found = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [statement]).fetchall()[0][0]
    tree: dict[str, Any] = json.loads(found)
    return tree


def _check(tree: Any, columns: pa.Schema) -> None:
    bound = {name.lower() for node in _nodes(tree) if node["class"] == "LAMBDA" for name in _lambda_names(node)}
    for node in _nodes(tree):
        kind = node["class"]
        if kind not in _ALLOWED:
            raise ExpressionError(f"expected an expression over the sample's fields, found {_REFUSED.get(kind, kind)}")
        if kind == "FUNCTION" and not _may_be_used(node["function_name"].lower(), len(node["arguments"])):
            raise ExpressionError(
                f"the function {node['function_name']} may not be used here",
                "only functions of one sample whose value is the same on every day and machine",
            )
        if kind == "COLUMN_REF" and node["column_names"][0].lower() not in bound:
            _check_column(node["column_names"], columns)


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every expression of a tree."""
    if isinstance(tree, dict):
        if "class" in tree:
            yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


def _lambda_names(node: dict[str, Any]) -> list[str]:
    return [inner["column_names"][0] for inner in _nodes(node["lhs"]) if inner["class"] == "COLUMN_REF"]


@cache
def _functions() -> dict[str, bool]:
    """By name: whether all forms of a function are scalar and consistent, in DuckDB's own word."""
    query = """SELECT function_name, bool_and(function_type = 'scalar' AND stability = 'CONSISTENT')
               FROM duckdb_functions() GROUP BY function_name"""
    with closing(connect()) as connection:
        return {name: bool(pure) for name, pure in connection.execute(query).fetchall()}


def _may_be_used(name: str, arguments: int) -> bool:
    if name in _IMPURE or (name == "age" and arguments == 1):  # the age of one time is its distance from today
        return False
    if name in _PURE_MACROS or name.startswith(_PURE_PREFIXES):
        return True
    # DuckDB says itself what an unknown function may have been meant to be.
    return _functions().get(name, True)


def _check_column(names: list[str], columns: pa.Schema) -> None:
    path = [name.lower() for name in names]
    known = {name.lower(): name for name in dotted_columns(columns)}
    if len(path) > 1 and path[0] == _TABLE and _TABLE not in known:
        path = path[1:]
    if ".".join(path) in known:
        return
    near = difflib.get_close_matches(".".join(path), known, n=1, cutoff=0.6) or [
        dotted for dotted in known if dotted.rpartition(".")[2] == path[-1]
    ]
    listed = list(known.values())
    shown = ", ".join(listed[:_COLUMNS_SHOWN]) + (", ..." if len(listed) > _COLUMNS_SHOWN else "")
    raise ExpressionError(
        f"unknown column `{'.'.join(names)}`, the samples have {shown}",
        _hint(path, known[near[0]] if near else None),
    )


def _hint(path: list[str], near: str | None) -> str:
    """What an unknown column was meant to be; `near` is the column of the nearest name."""
    if path[0] in TURNS:
        return "turns are no columns; there are `turns`, `characters` and `answer`"
    if path == ["tier"]:
        return "the dataset has no `tiers:`, which give it the column `tier`"
    if path == ["none"]:
        return "write `is null`"
    if near is not None:
        return f"did you mean `{near}`?"
    if len(path) == 1 and path[0] in _SCORES:
        return "`stepladder data score` writes such columns; name its file as the dataset's `scores:`"
    if len(path) == 1:
        return "text stands in single quotes: meta.neg_type = 'tierA'"
    return "a member of an object has the names of all that it is in before it: meta.neg_type"
