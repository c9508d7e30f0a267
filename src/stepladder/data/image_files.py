"""The image and depth files that records name: inside the dataset's folder, there, and, where it is asked for, whole.

A path that leaves the folder is never opened, also through a link: a data file from somewhere else cannot make a run
read what lies around it. Whoever keeps images elsewhere names their folder as the dataset's
`image_folder`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stepladder.data.decoding import decode
from stepladder.data.processes import spread
from stepladder.data.records import Store
from stepladder.data.sql import connect
from stepladder.data.true_paths import lies_within, true_path

#: Records whose names are held at a time.
_RECORDS = 4096

#: Images that a process decodes before it takes more.
_AT_ONCE = 16

_NAMES = """
    SELECT "row",
           CASE json_type(found) WHEN 'ARRAY' THEN found->>'$[*]' WHEN 'VARCHAR' THEN [found->>'$'] ELSE [] END
    FROM (SELECT "row", {named} AS found
          FROM records SEMI JOIN chosen USING ("row"))
    ORDER BY "row"
"""

#: What names a record's files, by what they are.
_FIELDS = {
    "image": "coalesce(nullif(record::JSON->'$.images', 'null'::JSON), record::JSON->'$.image')",
    "depth map": "record::JSON->'$.depth'",
}

#: Size in bytes, time in nanoseconds and inode of a file: while they stay, so does what decoding it gave.
_Seen = tuple[int, int, int]


def bad_images(store: Store, rows: npt.NDArray[np.int64], cache: Path, decoded: bool) -> list[tuple[int, str]]:
    """(row, why) of the records with an image that cannot be used, by row.

    Args:
        store: the records.
        rows: those that are looked at.
        cache: folder where it is noted which files were whole, in `images.sqlite`.
        decoded: decode every image as well, in as many processes as there are cores.
    """
    if "images" in store.records.column_names:
        return list(_bad_embedded(store, rows)) if decoded else []
    return _bad_named(store, rows, cache, decoded, "image")


def bad_depth(store: Store, rows: npt.NDArray[np.int64], cache: Path, decoded: bool) -> list[tuple[int, str]]:
    """(row, why) of the records without a depth map for each image, or with one that cannot be used; see `bad_images`.

    A row may come twice.
    """
    images = store.fields.column("image_count").to_numpy()
    found = []
    for row, names in _named(store, rows, "depth map"):
        if len(names) != images[row] or not names:
            found.append((row, f"{len(names)} depth maps for {images[row]} images, expected one for each"))
    return found + _bad_named(store, rows, cache, decoded, "depth map")


def _bad_named(
    store: Store, rows: npt.NDArray[np.int64], cache: Path, decoded: bool, what: str
) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    with closing(_Notes(cache / "images.sqlite")) as notes:
        records = _named(store, rows, what)
        while part := list(islice(records, _RECORDS)):
            found += _bad_files(store.folder, part, notes if decoded else None, what)
    return found


def _named(store: Store, rows: npt.NDArray[np.int64], what: str) -> Iterator[tuple[int, list[str | None]]]:
    """(row, names of its files), by row; `what` is a key of `_FIELDS`."""
    with closing(connect()) as connection:
        connection.register("records", store.records.select(["row", "record"]))
        connection.register("chosen", pa.table({"row": rows}))
        found = connection.execute(_NAMES.format(named=_FIELDS[what]))
        while part := found.fetchmany(_RECORDS):
            yield from part


def _bad_files(
    folder: Path, records: Sequence[tuple[int, list[str | None]]], notes: _Notes | None, what: str
) -> Iterator[tuple[int, str]]:
    names = {name for _, names in records for name in names if name is not None}
    why = {name: _unusable(str(folder), name, what) for name in names}
    if notes is not None:
        troubles = notes.decoded({name: folder / name for name in names if why[name] is None})
        why |= {name: f"{what} {name} does not decode: {trouble}" for name, trouble in troubles.items() if trouble}
    for row, wanted in records:
        reasons = [f"a path of {what} that is no text" if name is None else why[name] for name in wanted]
        if reason := next(filter(None, reasons), None):
            yield row, reason


def _unusable(folder: str, name: str, what: str) -> str | None:
    """Why a file cannot be opened as the image or depth map of a record of this folder."""
    if "\0" in name:
        return f"{what} {name!r} is no path"
    true = true_path(os.path.join(folder, name))  # noqa: PTH118 - a Path costs more, millions of times
    if not lies_within(true, folder):
        return f"{what} {name} leaves the dataset's folder {folder}"
    return None if os.path.isfile(true) else f"{what} {name} not found in {folder}"  # noqa: PTH113


def _bad_embedded(store: Store, rows: npt.NDArray[np.int64]) -> Iterator[tuple[int, str]]:
    for row in rows.tolist():
        for number, content in enumerate(store.images(row) or [], start=1):
            if trouble := decode(content).trouble:
                yield row, f"image {number} does not decode: {trouble}"
                break


class _Notes:
    """What decoding gave, of files that have not changed since."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, timeout=60)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS images (path TEXT PRIMARY KEY, size INT, time INT, inode INT, trouble TEXT)"
        )

    def close(self) -> None:
        self._database.close()

    def decoded(self, files: dict[str, Path]) -> dict[str, str]:
        """By name: "" for an image that decodes, else why it does not."""
        seen = {name: _seen(path) for name, path in files.items()}
        troubles = {name: self._known(files[name], seen[name]) for name in files}
        new = [name for name, trouble in troubles.items() if trouble is None]
        fresh = _decode_all([str(files[name]) for name in new])
        with self._database:
            self._database.executemany(
                "REPLACE INTO images VALUES (?, ?, ?, ?, ?)",
                [(str(files[name]), *seen[name], trouble) for name, trouble in zip(new, fresh, strict=True)],
            )
        known = {name: trouble for name, trouble in troubles.items() if trouble is not None}
        return known | dict(zip(new, fresh, strict=True))

    def _known(self, path: Path, seen: _Seen) -> str | None:
        """What is noted of a file as it is now, "" for one that decodes; None where nothing is."""
        query = "SELECT trouble FROM images WHERE path = ? AND size = ? AND time = ? AND inode = ?"
        found = self._database.execute(query, (str(path), *seen)).fetchone()
        return None if found is None else str(found[0])


def _seen(path: Path) -> _Seen:
    found = path.stat()
    return found.st_size, found.st_ctime_ns, found.st_ino


def _decode_all(paths: Sequence[str]) -> list[str]:
    parts = [paths[first : first + _AT_ONCE] for first in range(0, len(paths), _AT_ONCE)]
    return [trouble for part in spread(_troubles, parts) for trouble in part]


def _troubles(paths: Sequence[str]) -> list[str]:
    return [_trouble(path) for path in paths]


def _trouble(path: str) -> str:
    return decode(path).trouble or ""
