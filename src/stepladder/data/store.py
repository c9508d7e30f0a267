"""Stores in the cache: found by content, built once however many processes ask, rebuilt when damaged."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from filelock import FileLock

from stepladder.data.contents import content_digest, digest
from stepladder.data.fields import fields_query, structure_of
from stepladder.data.mixture import Source
from stepladder.data.records import VERSION, Store, is_whole, place
from stepladder.data.samples import PROBLEMS_SHOWN
from stepladder.data.sieve import unusable
from stepladder.data.sources.batch import BLOCK, Batch, SourceError
from stepladder.data.sources.formats import SourceFiles, source_files
from stepladder.data.sources.tables import mixed_images
from stepladder.data.sql import connect
from stepladder.errors import InputError, Problem, RunError
from stepladder_worker.contract import write_sealed

#: Rows of a batch of columns; the records' batches follow the bytes that were read.
_FIELD_ROWS = 65_536


class BadSamplesError(InputError):
    """Samples that cannot be used, the first few named, where they are not to be skipped."""

    def __init__(self, found: list[tuple[str, str]], place: str) -> None:
        """`found` has (where, why) of all of them, `place` is the dataset."""
        hint = "repair them, or leave them out, counted and listed, with `on_bad_sample: skip`"
        problems = [Problem(where, why, hint) for where, why in found[:PROBLEMS_SHOWN]]
        if len(found) > PROBLEMS_SHOWN:
            problems.append(Problem(place, f"... and {len(found) - PROBLEMS_SHOWN} more"))
        super().__init__(problems)


def open_store(source: Source, cache: Path, on_bad_sample: str = "refuse") -> Store:
    """The store of a dataset, built in `{cache}/stores/` unless one of the same content is there.

    Args:
        source: the dataset.
        cache: folder of all stores; made where it is missing.
        on_bad_sample: refuse raises when the dataset has records that cannot be used; skip leaves them out.

    Raises:
        SourceError: nothing there, an unknown format, or a file that cannot be read on.
        BadSamplesError: see `on_bad_sample`.
        RunError: no room, or no right, to read the dataset or to write the cache.
    """
    files = source_files(source)
    with disk_errors(f"the store of {files.path}"):
        content = digest(VERSION, files.format, content_digest(files.files, cache))
        fingerprint = digest(content, str(files.path), str(files.folder))
        folder = cache.absolute() / "stores" / fingerprint
        if not is_whole(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{folder}.lock"):
                if not is_whole(folder):
                    _build(files, folder, {"fingerprint": fingerprint, "content": content})
        store = Store(folder)
    _check(store, on_bad_sample)
    return store


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """RunError for what the disk, its rights or the memory do not allow while `what` is made."""
    try:
        yield
    except (OSError, duckdb.Error, sqlite3.Error, pa.ArrowException) as error:
        hint = "check the rights and the room of the paths; `data: {cache: FOLDER}` moves the stores"
        raise RunError(f"{what} could not be made: {error}", hint) from None


def _check(store: Store, on_bad_sample: str) -> None:
    left_out = store.left_out
    if left_out and (on_bad_sample == "refuse" or not store.rows):
        raise BadSamplesError(left_out, str(store.source))
    if not store.rows:
        raise SourceError(str(store.source), "holds no samples", "check that the file was written to its end")


def _build(files: SourceFiles, folder: Path, facts: dict[str, Any]) -> None:
    """Build beside the place and rename; what a killed builder left is removed first. The lock is held."""
    for leftover in folder.parent.glob(f"{folder.name}.new-*"):
        shutil.rmtree(leftover)
    new = folder.with_name(f"{folder.name}.new-{os.getpid()}")
    new.mkdir()
    try:
        facts |= _write_records(files, new)
        _write_fields(files, new)
        sizes = {path.name: path.stat().st_size for path in new.iterdir()}
        facts |= {"version": VERSION, "source": str(files.path), "format": files.format, "folder": str(files.folder)}
        write_sealed(new / "store.json", facts | {"sizes": sizes})
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _write_records(files: SourceFiles, new: Path) -> dict[str, Any]:
    """Write `records.arrow` and, where there are any, `left_out.jsonl`; returns what store.json says of them."""
    rows = left_out = 0
    starts: list[tuple[str, int]] = []
    kinds: set[bool] = set()
    writer = None
    with (new / "left_out.jsonl").open("w", encoding="utf-8") as refused:
        for path in files.files:
            starts.append((str(path), rows))
            for batch in _large(_of_one_kind(files.batches(path), kinds)):
                kept, bad = _sieved(batch, rows)
                if writer is None:
                    writer = pa.ipc.new_stream(str(new / "records.arrow"), kept.schema)
                writer.write_table(kept)
                rows += kept.num_rows
                left_out += len(bad)
                for line, why in bad:
                    refused.write(json.dumps({"where": place(str(path), files.format, line), "why": why}) + "\n")
    if writer is None:
        writer = pa.ipc.new_stream(str(new / "records.arrow"), _EMPTY.schema)
    writer.close()
    if not left_out:
        (new / "left_out.jsonl").unlink()
    return {"rows": rows, "files": starts, "left_out": left_out}


_EMPTY = pa.table(
    {"record": pa.array([], pa.large_string()), "row": pa.array([], pa.int64()), "line": pa.array([], pa.int64())}
)


def _of_one_kind(batches: Iterator[Batch], kinds: set[bool]) -> Iterator[Batch]:
    """The batches, as long as all of a dataset hold images or none does; `kinds` is what the files before had."""
    for batch in batches:
        kinds.add(batch.images is not None)
        if len(kinds) > 1:
            raise mixed_images(f"{batch.file}: row {batch.lines[0]}")
        yield batch


def _large(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Small batches of one file put together: opening a store takes a moment for each."""
    held: list[Batch] = []
    size = 0
    for batch in batches:
        held.append(batch)
        size += batch.records.nbytes + (0 if batch.images is None else batch.images.nbytes)
        if size >= BLOCK:
            yield _joined(held)
            held, size = [], 0
    if held:
        yield _joined(held)


def _joined(batches: list[Batch]) -> Batch:
    if len(batches) == 1:
        return batches[0]
    images = [batch.images for batch in batches]
    return Batch(
        batches[0].file,
        pa.concat_arrays([batch.records for batch in batches]),
        pa.concat_arrays([batch.lines for batch in batches]),
        None if images[0] is None else pa.concat_arrays(images),
        tuple(entry for batch in batches for entry in batch.left_out),
    )


def _sieved(batch: Batch, first: int) -> tuple[pa.Table, list[tuple[int, str]]]:
    """The batch's usable records as a table, and (line, why) of the others; `first` is the first row's number."""
    columns = {"record": batch.records, "line": batch.lines}
    if batch.images is not None:
        columns["images"] = batch.images
    table = pa.table(columns)
    bad = unusable(table)
    keep = np.ones(table.num_rows, bool)
    keep[[number for number, _ in bad]] = False
    kept = table.filter(pa.array(keep)) if bad else table
    rows = pa.array(np.arange(first, first + kept.num_rows, dtype=np.int64))
    named = [(batch.lines[number].as_py(), why) for number, why in bad]
    return kept.add_column(1, "row", rows).combine_chunks(), sorted([*named, *batch.left_out])


def _write_fields(files: SourceFiles, new: Path) -> None:
    """Write `fields.arrow`, batch by batch."""
    with pa.memory_map(str(new / "records.arrow")) as file, pa.ipc.open_stream(file) as stream:
        records = stream.read_all()
    connection = connect()
    connection.register("records", records)
    structure = structure_of(connection, str(files.path)) if records.num_rows else {}
    query = fields_query(structure, files.path.name, "images" in records.column_names)
    reader = connection.sql(query).to_arrow_reader(_FIELD_ROWS)
    with pa.ipc.new_stream(str(new / "fields.arrow"), reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
    connection.close()
