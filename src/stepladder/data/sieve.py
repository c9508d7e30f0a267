"""Which texts are no JSON objects, and why; what DuckDB and Python read differently counts as none."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from stepladder.data.sql import connect

#: DuckDB gives up at 128.
DEEPEST = 100

#: What DuckDB reads and JSON does not allow: a comma before a closing bracket, other spellings of NaN and infinity.
_TOO_LENIENT = r",\s*[\]}]|[:\[,]\s*-?(?i:nan|inf)"

#: Python reads whole numbers of at most 4300 digits (sys.get_int_max_str_digits); fewer make a suspect.
_LONG_NUMBER = "[0-9]{200}"

_SUSPECT = f"""
    SELECT number, record, json_type(value) IS NOT NULL AS readable
    FROM (SELECT row_number() OVER () - 1 AS number, record, try_cast(record AS JSON) AS value FROM batch)
    WHERE coalesce(json_type(value), '') <> 'OBJECT'
       OR regexp_matches(record, '{_TOO_LENIENT}|{_LONG_NUMBER}')
       OR strlen(record) - strlen(replace(replace(record, '{{', ''), '[', '')) > {DEEPEST}
       OR list_unique(json_keys(value)) < len(json_keys(value))
       OR len(list_filter(json_keys(value, '$..*'), lambda keys: list_unique(keys) < len(keys))) > 0
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
        value = parsed(text)
    except ValueError as error:
        return str(error)
    if not isinstance(value, dict):
        return f"expected a JSON object, found {type(value).__name__}"
    return None if readable else "not JSON that DuckDB reads, such as half of a surrogate pair in a text"


_TOO_DEEP = f"nested more than {DEEPEST} deep"


def parsed(text: str) -> Any:
    """A JSON value whose objects have every key once; raises ValueError, whose text says what is wrong."""
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_int=_whole)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if _depth(value) > DEEPEST:
        raise ValueError(_TOO_DEEP)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a key that is there twice, DuckDB reads the first value and Python the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key `{twice}` twice in one object, expected once")
    return found


def _whole(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:
        raise ValueError(f"a number of {len(digits)} digits, longer than Python reads") from None


def _depth(value: Any) -> int:
    """Levels of objects and lists, level by level: no recursion that a deep value could exhaust."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth
