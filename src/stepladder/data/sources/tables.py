"""Tables: Parquet files, and folders saved by `datasets`. Image columns with bytes become the store's images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stepladder.data.sources.batch import Batch, SourceError
from stepladder.data.sql import connect

#: Columns of a sample's images; the first of them that is not null counts.
_IMAGE_COLUMNS = ("images", "image")

#: Rows at a time: few where images are embedded.
_ROWS, _ROWS_WITH_BYTES = 65_536, 256


def read_parquet(path: Path) -> Iterator[Batch]:
    """Rows of a Parquet file as JSON objects.

    Raises:
        SourceError: the file is no Parquet file, or damaged.
    """
    try:
        with pq.ParquetFile(path) as file:
            rows = _ROWS_WITH_BYTES if any(_has_bytes(field.type) for field in file.schema_arrow) else _ROWS
            yield from _batches(path, file.iter_batches(rows))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None


def read_arrow(path: Path) -> Iterator[Batch]:
    """Rows of one memory-mapped file of a folder saved by `datasets`.

    Raises:
        SourceError: the file is damaged.
    """
    try:
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
            yield from _batches(path, stream)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None


def arrow_files(folder: Path) -> list[Path]:
    """The files of a folder saved by `Dataset.save_to_disk`, in order.

    Raises:
        SourceError: the folder holds several splits, or was not saved to its end.
    """
    if (folder / "dataset_dict.json").is_file():
        splits = json.loads((folder / "dataset_dict.json").read_text("utf-8")).get("splits", [])
        text = f"expected one dataset, found the splits {', '.join(splits)}"
        raise SourceError(
            str(folder), text, f"name one of them, for example {folder / splits[0] if splits else folder}"
        )
    try:
        state = json.loads((folder / "state.json").read_text("utf-8"))
        names = [entry["filename"] for entry in state["_data_files"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise SourceError(str(folder), f"not a folder saved by `datasets`: {error}", _SAVE_AGAIN) from None
    return [folder / name for name in names]


_SAVE_AGAIN = "save it again with Dataset.save_to_disk"


def _damaged(path: Path, error: Exception) -> SourceError:
    return SourceError(str(path), f"cannot be read: {str(error).splitlines()[0]}", "write the file again")


def _batches(path: Path, batches: Any) -> Iterator[Batch]:
    first = 1
    for batch in batches:
        _require_apart(path, batch.schema.names)
        lines = pa.array(np.arange(first, first + batch.num_rows, dtype=np.int64))
        records, images = _converted(batch, path, first)
        yield Batch(path, records, lines, images)
        first += batch.num_rows


def _require_apart(path: Path, names: list[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        if name.lower() in seen:
            text = f"the columns `{seen[name.lower()]}` and `{name}`, expected names that differ in more than case"
            raise SourceError(str(path), text, "rename one of them")
        seen[name.lower()] = name


def _has_bytes(kind: Any) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _has_bytes(kind.value_type)
    if pa.types.is_struct(kind):
        return any(_has_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _converted(batch: Any, path: Path, first: int) -> tuple[Any, Any]:
    """(records, images or None) of rows that are counted from `first`; columns of bytes are never part of a record."""
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    bytes_in = {name for name, column in columns.items() if _has_bytes(column.type)}
    plain = {name: column for name, column in columns.items() if name not in bytes_in}
    if not bytes_in & set(_IMAGE_COLUMNS):
        return _as_json(plain, batch.num_rows), None
    items = _image_items([columns[name] for name in _IMAGE_COLUMNS if name in columns])
    contents = [[found for item in row if (found := _bytes_of(item)) is not None] for row in items]
    only_named = next((number for number, row in enumerate(items) if any(map(_is_only_named, row))), None)
    if only_named is None:
        return _as_json(plain, batch.num_rows), pa.array(contents, pa.list_(pa.large_binary()))
    if any(contents):
        raise mixed_images(f"{path}: row {first + only_named}")
    named = {name: _image_paths(columns[name]) for name in _IMAGE_COLUMNS if name in bytes_in}
    return _as_json(plain | named, batch.num_rows), None


def mixed_images(place: str) -> SourceError:
    """Some samples of a dataset hold their images and others name files; a store has one of the two."""
    text = "expected images that are all held, or all named, found both in one dataset"
    return SourceError(place, text, "write it again with the bytes of every image, or make two datasets of it")


def _as_json(columns: dict[str, Any], rows: int) -> Any:
    if not columns:
        return pa.array(["{}"] * rows, pa.large_string())
    connection = connect()
    connection.register("sample_rows", pa.table(columns))
    written = connection.sql("SELECT to_json(sample_rows)::VARCHAR AS record FROM sample_rows").to_arrow_table()
    connection.close()
    return written.column(0).cast(pa.large_string()).combine_chunks()


def _image_items(columns: list[Any]) -> list[list[Any]]:
    """Each row's images, held or named, of the first of the columns that is not null there."""
    rows = zip(*(column.to_pylist() for column in columns), strict=True)
    return [_listed(next((value for value in row if value is not None), None)) for row in rows]


def _image_paths(column: Any) -> Any:
    if pa.types.is_struct(column.type):
        return pc.struct_field(column, "path")
    rows = [None if row is None else [_path_of(item) for item in _listed(row)] for row in column.to_pylist()]
    return pa.array(rows, pa.list_(pa.string()))


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _path_of(item: Any) -> str | None:
    """The name of an image as `datasets` keeps it, or as a column of names has it."""
    found = item.get("path") if isinstance(item, dict) else item
    return found if isinstance(found, str) else None


def _is_only_named(item: Any) -> bool:
    return _bytes_of(item) is None and _path_of(item) is not None


def _bytes_of(item: Any) -> bytes | None:
    """The bytes of an image as `datasets` keeps it: {"bytes", "path"}, or bytes alone."""
    found = item.get("bytes") if isinstance(item, dict) else item
    return found if isinstance(found, bytes) else None
