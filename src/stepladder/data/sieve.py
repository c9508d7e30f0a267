"""Which texts are no JSON objects, and why; what DuckDB and Python read differently counts as none."""

from __future__ import annotations

import json
from typing import Any

from stepladder.data.sql import connect

#: DuckDB gives up at 128.
DEEPEST = 100

#: What DuckDB reads and JSON does not allow: a comma before a closing bracket, other spellings of NaN and infinity.
_TOO_LENIENT = r",\s*[\]}]|[:\[,]\s*-?(?i:nan|inf)"
_SUSPECT = f"""
    SELECT number, record, json_type(try_cast(record AS JSON)) IS NOT NULL AS readable
    FROM (SELECT row_number() OVER () - 1 AS number, record FROM batch)
    WHERE coalesce(json_type(try_cast(record AS JSON)), '') <> 'OBJECT'
       OR regexp_matches(record, '{_TOO_LENIENT}')
       OR length(record) - length(translate(record, '{{[', '')) > {DEEPEST}
    ORDER BY number
"""


def unusable(batch: Any) -> list[tuple[int, str]]:
    """(number in the batch, why) of the records that are no JSON objects.

    Args:
        batch: a table with a column `record`.
    """
    connection = connect()
    connection.register("batch", batch)
    suspects = connection.execute(_SUSPECT).fetchall()
    connection.close()
    found = [(number, _reason(record, readable)) for number, record, readable in suspects]
    return [(number, why) for number, why in found if why]


def _reason(text: str, readable: bool) -> str | None:
    """Why a suspect is no JSON object that both can read; None where it is one. `readable`: by DuckDB."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return f"not JSON: {error.msg} at character {error.pos + 1}"
    except RecursionError:
        return f"nested more than {DEEPEST} deep"
    if not isinstance(value, dict):
        return f"expected a JSON object, found {type(value).__name__}"
    if _depth(value) > DEEPEST:
        return f"nested more than {DEEPEST} deep"
    return None if readable else "not JSON that DuckDB reads, such as half of a surrogate pair in a text"


def _depth(value: Any) -> int:
    """Levels of objects and lists, level by level: no recursion that a deep value could exhaust."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth
