"""DuckDB as this package uses it: in memory, without files, network or extensions of its own."""

from __future__ import annotations

import tempfile
from typing import Any

import duckdb

_SETTINGS = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
    # Left to itself, a sort that does not fit into memory writes into the working directory.
    "temp_directory": tempfile.gettempdir(),
    "preserve_insertion_order": True,
    "default_null_order": "nulls_last",
}


def connect(threads: int | None = None) -> duckdb.DuckDBPyConnection:
    """A connection that sees only what is registered with it, and whose settings cannot be changed any more.

    Args:
        threads: None for as many as there are cores.
    """
    settings: dict[str, Any] = _SETTINGS | ({} if threads is None else {"threads": threads})
    connection = duckdb.connect(config=settings)
    connection.execute("SET enable_progress_bar = false")  # stdout is the command's answer
    connection.execute("SET TimeZone = 'UTC'")  # else a condition on times depends on the machine
    connection.execute("SET lock_configuration = true")
    return connection


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"
