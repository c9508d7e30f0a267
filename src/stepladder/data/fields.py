"""A record's fields as typed columns, so that conditions run over them without parsing JSON again.

Types are found over all records: a field that is a number in one and a text in another stays JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import duckdb

from stepladder.data.sources.batch import SourceError
from stepladder.data.sql import literal, quoted

#: Fields that hold the turns: their text is in the records alone.
TURNS = ("conversations", "messages", "prompt", "completion", "text")

#: Columns that every store has, or that a dataset's tiers add; a field of such a name gets `sample_` before it.
OWN = ("row", "line", "id", "image_count", "turns", "characters", "answer", "tier")

#: An object with more keys than this is a map, not a structure, and stays JSON text.
_MOST_KEYS = 1000

#: Levels of a column below which values stay JSON text: an Arrow schema holds 64.
_LEVELS = 32

#: What `json_structure` calls numbers; a signed and an unsigned one are both HUGEINT.
_NUMBERS = ("UBIGINT", "BIGINT", "HUGEINT", "DOUBLE")

#: A whole number of this many digits may not fit a signed 64-bit column.
_LONG_NUMBER = "[0-9]{19}"


def structure_of(connection: duckdb.DuckDBPyConnection, place: str) -> dict[str, Any]:
    """The typed structure of all records of the registered table `records`, as `json_transform` takes it.

    Args:
        connection: has `records` with the columns record, row, line, and images where there are any.
        place: the dataset, for messages.

    Raises:
        SourceError: two fields that no condition could tell apart: they differ only in case, or one of them is called
            as the other one's column.
    """
    # Not json_group_structure, which holds all records in memory: 18 GB for 10 million small ones.
    top: dict[str, Any] = {}
    for (found,) in connection.execute("SELECT DISTINCT json_structure(record::JSON) FROM records").fetchall():
        top = _merged(top, _of_one(json.loads(found)))
    long = f"SELECT count(*) > 0 FROM records WHERE regexp_matches(record, '{_LONG_NUMBER}')"
    unsigned = bool(connection.execute(long).fetchall()[0][0])
    _require_apart(top, place)
    return {name: _typed(value, unsigned) for name, value in top.items() if name} | _turn_types(top)


def _require_apart(names: Iterable[str], place: str) -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            text = f"the fields `{other}` and `{name}` differ only in case, so no condition could tell them apart"
            raise SourceError(place, text, "rename one of them")
    for name in seen.values():
        column = _column(name)
        if column != name and column.lower() in seen:
            text = f"the field `{name}` becomes the column `{column}`, and there is a field `{seen[column.lower()]}`"
            raise SourceError(place, text, "rename one of them")


def _column(field: str) -> str:
    return f"sample_{field}" if field.lower() in OWN and field != "id" else field


def _of_one(node: Any) -> Any:
    """What DuckDB says of one record, where it calls an object without members JSON, like a list of several types."""
    if isinstance(node, dict):
        return {name: _of_one(value) for name, value in node.items()}
    return {} if node == "JSON" else node


def _merged(first: Any, second: Any) -> Any:
    """A type that holds the values of both; changes the first where it is an object."""
    if first == second or second == "NULL":
        return first
    if first == "NULL":
        return second
    if isinstance(first, dict) and isinstance(second, dict):
        for name, value in second.items():
            first[name] = _merged(first.get(name, "NULL"), value)
        return first
    if isinstance(first, list) and isinstance(second, list):
        return [_merged(first[0], second[0])]
    kinds = [kind if isinstance(kind, str) else "" for kind in (first, second)]
    if all(kind in _NUMBERS for kind in kinds):
        return "DOUBLE" if "DOUBLE" in kinds else "HUGEINT"
    return "JSON"


def _typed(node: Any, unsigned: bool, level: int = 1) -> Any:
    if level > _LEVELS and isinstance(node, dict | list):
        return "JSON"
    if isinstance(node, dict):
        if not node or "" in node or len({name.lower() for name in node}) < len(node) or len(node) > _MOST_KEYS:
            return "JSON"
        return {name: _typed(value, unsigned, level + 1) for name, value in node.items()}
    if isinstance(node, list):
        return [_typed(item, unsigned, level + 1) for item in node]
    if node in ("UBIGINT", "HUGEINT"):
        return node if unsigned else "BIGINT"  # signed where it can be: a difference may be negative
    return "VARCHAR" if node == "NULL" else node  # null everywhere, and still comparable with a text


def _turn_types(top: dict[str, Any]) -> dict[str, Any]:
    """What is read of the turns, and `id` as text, whatever all records have there."""
    chat: list[Any] = [{"content": "VARCHAR"}]
    types = {"conversations": [{"value": "VARCHAR"}], "messages": chat, "text": "VARCHAR", "id": "VARCHAR"}
    types |= {name: chat for name in ("prompt", "completion") if isinstance(top.get(name), list)}
    return {name: kind for name, kind in types.items() if name in top}


def fields_query(structure: dict[str, Any], name: str, embedded: bool) -> str:
    """SQL that makes the columns of `fields.arrow` out of the registered table `records`, in its order.

    Args:
        structure: see `structure_of`.
        name: begins the id of a record that has none.
        embedded: `records` has the column `images`.
    """
    columns = [
        '"row"',
        "line",
        f"coalesce({_field(structure, 'id')}, {literal(name + ':')} || row) AS id",
        f"({'len(images)' if embedded else _named_images(structure)})::BIGINT AS image_count",
        "coalesce(len(texts), 0)::BIGINT AS turns",
        "coalesce(list_sum(list_transform(texts, lambda x: length(x))), 0)::BIGINT AS characters",
        f"{'NULL' if not set(structure) & set(TURNS[:4]) else _answer(structure)}::VARCHAR AS answer",
    ]
    for field in structure:
        if field not in TURNS and field != "id":
            columns.append(f"t.{quoted(field)} AS {quoted(_column(field))}")
    shape = literal(json.dumps(structure, ensure_ascii=False))
    transformed = f"json_transform(record::JSON, {shape})" if structure else "NULL"
    images = ", images" if embedded else ""
    return (
        f"SELECT {', '.join(columns)} FROM (SELECT *, {_texts(structure)} AS texts FROM "
        f'(SELECT "row", line{images}, {transformed} AS t FROM records))'
    )


def _field(structure: dict[str, Any], name: str) -> str:
    return f"t.{quoted(name)}" if name in structure else "NULL"


def _texts(structure: dict[str, Any]) -> str:
    """The texts of all turns, of the first kind of turns that the record has, in the order of `samples.py`."""
    cases = []
    if "conversations" in structure:
        cases.append("WHEN t.conversations IS NOT NULL THEN list_transform(t.conversations, lambda x: x.value)")
    if "messages" in structure:
        cases.append("WHEN t.messages IS NOT NULL THEN list_transform(t.messages, lambda x: x.content)")
    if "prompt" in structure and "completion" in structure:
        both = f"{_side(structure, 'prompt')} || {_side(structure, 'completion')}"
        cases.append(f"WHEN t.prompt IS NOT NULL AND t.completion IS NOT NULL THEN {both}")
    if "text" in structure:
        cases.append("WHEN t.text IS NOT NULL THEN [t.text]")
    return f"CASE {' '.join(cases)} END" if cases else "NULL::VARCHAR[]"


def _side(structure: dict[str, Any], name: str) -> str:
    chat = isinstance(structure[name], list)
    return f"list_transform(t.{name}, lambda x: x.content)" if chat else f"[t.{name}::VARCHAR]"


def _answer(structure: dict[str, Any]) -> str:
    """The last turn's text; plain text has no answer."""
    only_text = [f"t.{name} IS NULL" for name in TURNS[:4] if name in structure]
    return f"CASE WHEN {' AND '.join(only_text)} THEN NULL ELSE texts[-1] END"


def _named_images(structure: dict[str, Any]) -> str:
    counts = []
    for name in ("images", "image"):
        if name in structure:
            column = _field(structure, name)
            kind = structure[name]
            if isinstance(kind, list):
                counts.append(f"len({column})")
            elif kind == "JSON":
                counts.append(
                    f"CASE json_type({column}) WHEN 'ARRAY' THEN json_array_length({column}) WHEN 'VARCHAR' THEN 1 END"
                )
            else:
                counts.append(f"CASE WHEN {column} IS NOT NULL THEN 1 END")
    return f"coalesce({', '.join([*counts, '0'])})"
