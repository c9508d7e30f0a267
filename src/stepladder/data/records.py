"""A store: a dataset's records as memory-mapped Arrow. Opening one takes milliseconds and no memory, at any size.

`store.py` builds and finds stores; this file only reads them, with pyarrow and nothing of the control side.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from stepladder.data.samples import DataError, Sample, sample_of
from stepladder_worker.contract import read_sealed

#: Version of what a store's folder holds.
VERSION = 1

#: What a record's number in its file is called; the others have lines.
_UNITS = {"parquet": "row", "datasets": "row", "webdataset": "sample"}


def place(file: str, kind: str, line: int) -> str:
    """How messages name a record: FILE:LINE, or the row of a table or the sample of a tar."""
    return f"{file}: {_UNITS[kind]} {line}" if kind in _UNITS else f"{file}:{line}"


class Store:
    """One dataset's records.

    Attributes:
        path: the store's folder.
        source: the dataset's file or folder, absolute.
        format: the dataset's format.
        fingerprint: of place and content; names the folder.
        content: fingerprint of the content alone.
        folder: where relative names of images start.
        rows: number of records.
    """

    def __init__(self, path: Path) -> None:
        """Open a finished store; use `read_store`, which checks that it is one."""
        facts = read_sealed(path / "store.json")
        self.path = path
        self.source = Path(facts["source"])
        self.format: str = facts["format"]
        self.fingerprint: str = facts["fingerprint"]
        self.content: str = facts["content"]
        self.folder = Path(facts["folder"])
        self.rows: int = facts["rows"]
        self._files: list[tuple[str, int]] = [(name, first) for name, first in facts["files"]]
        self._left_out: int = facts["left_out"]

    def __reduce__(self) -> tuple[Callable[[Path], Store], tuple[Path]]:
        """Another process maps the files itself."""
        return read_store, (self.path,)

    @cached_property
    def fields(self) -> pa.Table:
        """The columns that conditions may use, one row a record: docs/data.md lists them."""
        return _mapped(self.path / "fields.arrow")

    @cached_property
    def records(self) -> pa.Table:
        """`record` (large_string), `row` and `line` (int64); `images` (list of bytes) where the format embeds them."""
        return _mapped(self.path / "records.arrow")

    @property
    def left_out(self) -> list[tuple[str, str]]:
        """(where, why) of every record that is not in the store because it cannot be used."""
        if not self._left_out:
            return []
        lines = (self.path / "left_out.jsonl").read_text("utf-8").splitlines()
        return [(entry["where"], entry["why"]) for entry in map(json.loads, lines)]

    def record(self, row: int) -> dict[str, Any]:
        """The sample's JSON object; raises IndexError outside the store."""
        found: dict[str, Any] = json.loads(self.records.column("record")[row].as_py())
        return found

    def images(self, row: int) -> list[bytes] | None:
        """The sample's embedded image files; None where the record names files instead."""
        if "images" not in self.records.column_names:
            return None
        found: list[bytes] = self.records.column("images")[row].as_py()
        return found

    def sample(self, row: int, keep_messages: bool = False) -> Sample:
        """The record as a sample, its images not opened; raises DataError with its place where it gives none."""
        name = self.id(row)
        try:
            return sample_of(self.record(row), self.folder, name, keep_messages, self.images(row))
        except DataError as error:
            text = f"{self.where(row)}: sample {name}: {error}"
            raise DataError(f"{text}\nhint: `stepladder data check` finds all such samples") from None

    def id(self, row: int) -> str:
        """The sample's own id, else FILE:NUMBER."""
        return str(self.fields.column("id")[row].as_py())

    def where(self, row: int) -> str:
        """FILE:LINE, or FILE: row N; numbers count from 1."""
        name, _ = self._files[bisect_right(self._files, row, key=lambda entry: entry[1]) - 1]
        return place(name, self.format, self.fields.column("line")[row].as_py())


def read_store(path: Path) -> Store:
    """Open a store.

    Raises:
        DataError: nothing there, another version, or damaged.
    """
    if not is_whole(path):
        raise DataError(f"{path} is no whole store\nhint: make the selection again, which builds the store again")
    return Store(path)


#: `read_store` for the workers of a pool, which get many jobs on one store.
held_store = lru_cache(maxsize=1)(read_store)


def is_whole(path: Path) -> bool:
    """Whether a store was finished, by this version, and every file still has its size."""
    try:
        facts = read_sealed(path / "store.json")
        sizes = {name: (path / name).stat().st_size for name in facts["sizes"]}
        return bool(facts["version"] == VERSION and sizes == facts["sizes"])
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _mapped(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
        return stream.read_all()
