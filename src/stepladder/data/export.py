"""A selection as a LLaVA-style file, for scripts that read their data themselves.

One epoch in the order in which the trainer takes it, a sample at a time. Paths are absolute, so that a script which
joins a folder of images in front of them gets the same paths; embedded images become files in `{name}_images/` beside
the file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stepladder.data.lengths import trained_order
from stepladder.data.record import MASKS
from stepladder.data.records import Store
from stepladder.data.samples import PLACEHOLDER, DataError, Sample, named_images, sample_of
from stepladder.data.selection import Selection

_SPEAKERS = {"user": "human", "assistant": "gpt", "system": "system"}

#: Fields that are written anew, whatever a record calls them.
_WRITTEN = {"id", "image", "images", "depth", "conversations", "messages", "prompt", "completion", "text"}

#: First bytes of an image file -> suffix; anything else is named .img, and its content says what it is.
_SUFFIXES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp", b"GIF8": ".gif", b"BM": ".bmp"}

#: Bytes of a hash by which equal ids are found.
_ID_BYTES = 8


def export(selection: Selection, out: Path, placeholders: bool, positions: int | None = None, window: int = 0) -> int:
    """Write the samples at the first positions of a selection; the file appears whole or not at all.

    Args:
        selection: of a stage.
        out: `.json` (one list) or `.jsonl` (an object a line); replaced if it is there.
        placeholders: put `<image>` for each image before the first question.
        positions: how many; an epoch if None.
        window: the stage's `length_window`, see `trained_order`.

    Returns the number of samples written. A sample that comes more than once is written as often, and its id, like
    any that was written before, gets `@{position}` at its end.

    Raises:
        DataError: another suffix, a sample without LLaVA form, or one that cannot be used any more, by its place.
        OSError: the file cannot be written.
    """
    if out.suffix not in (".json", ".jsonl"):
        raise DataError(f"{out}: found the suffix {out.suffix!r}, expected .json or .jsonl\nhint: rename it")
    count = selection.length if positions is None else positions
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(_lines(_records(selection, out, placeholders, count, window), out.suffix))
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _lines(records: Iterable[Mapping[str, Any]], suffix: str) -> Iterator[str]:
    before, between, after = ("[\n", ",\n", "\n]\n") if suffix == ".json" else ("", "\n", "\n")
    yield before
    for place, record in enumerate(records):
        yield (between if place else "") + json.dumps(record)
    yield after


def _records(selection: Selection, out: Path, placeholders: bool, count: int, window: int) -> Iterator[dict[str, Any]]:
    ids, order = _Ids(selection), trained_order(selection, window)
    for position in range(count):
        part, row = order(position)
        store = part.store
        try:
            record, embedded = store.record(row), store.images(row)
            sample = sample_of(record, store.folder, store.id(row), keep_messages=True, embedded=embedded)
            images = sample.images or _write_images(out, store, row, sample.embedded)
            converted = _convert(record, sample, images, store.folder, placeholders)
        except DataError as error:
            raise DataError(f"{store.where(row)}: {error}\nhint: `stepladder data check` finds all of them") from None
        yield {"id": ids.unique(position, store, row)} | converted


def _convert(
    record: Mapping[str, Any], sample: Sample, images: Sequence[str], folder: Path, placeholders: bool
) -> dict[str, Any]:
    """A record with everything but its id; raises DataError."""
    converted: dict[str, Any] = {}
    if images:
        one = len(images) == 1 and isinstance(named_images(record), str)
        converted["image"] = images[0] if one else list(images)
    if sample.depth:
        converted["depth"] = sample.depth[0] if isinstance(record["depth"], str) else list(sample.depth)
    converted["conversations"] = _conversations(sample, len(images) if placeholders else 0)
    rest = {key: value for key, value in record.items() if key not in _WRITTEN}
    if isinstance(rest.get("meta"), dict):
        rest["meta"] = _absolute_masks(rest["meta"], folder)
    return converted | _absolute_masks(rest, folder)


def _conversations(sample: Sample, placeholders: int) -> list[dict[str, str]]:
    columns = sample.columns
    if "messages" in columns:
        turns = columns["messages"]
    elif isinstance(columns.get("prompt"), str):
        turns = [
            {"role": "user", "content": columns["prompt"]},
            {"role": "assistant", "content": columns["completion"]},
        ]
    elif "prompt" in columns:
        turns = [*columns["prompt"], *columns["completion"]]
    else:
        raise DataError("plain text has no questions and answers, which a LLaVA-style file is made of")
    found = [{"from": _SPEAKERS[turn["role"]], "value": turn["content"]} for turn in turns]
    first = next((turn for turn in found if turn["from"] == "human"), None)
    if first is not None:
        first["value"] = f"{PLACEHOLDER}\n" * placeholders + first["value"]
    return found


def _absolute_masks(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The values with the paths of masks made absolute: relative ones start at the dataset's folder."""
    masks = {key: str(folder.absolute() / name) for key in MASKS if isinstance(name := values.get(key), str) and name}
    return dict(values) | masks


def _write_images(out: Path, store: Store, row: int, embedded: Sequence[bytes]) -> list[str]:
    """Embedded images as files, written once; returns their absolute paths."""
    paths = []
    for place, data in enumerate(embedded):
        suffix = next((suffix for start, suffix in _SUFFIXES.items() if data.startswith(start)), ".img")
        path = out.parent.absolute() / f"{out.stem}_images" / f"{store.fingerprint[:8]}_{row}_{place}{suffix}"
        if not path.exists() or path.stat().st_size != len(data):
            path.parent.mkdir(exist_ok=True)
            temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            temporary.write_bytes(data)
            temporary.replace(path)
        paths.append(str(path))
    return paths


class _Ids:
    """Makes ids unique, with a few bytes a row in memory: which rows came already, and which ids several rows have."""

    def __init__(self, selection: Selection) -> None:
        stores = {part.store.path: part.store for part in selection.parts}
        self._came = {path: np.zeros(store.rows, dtype=np.bool_) for path, store in stores.items()}
        self._shared = _repeated(np.concatenate([_hashes(store) for store in stores.values()]))
        self._used: set[str] = set()

    def unique(self, position: int, store: Store, row: int) -> str:
        """The sample's id, told from those that were asked for before."""
        name, came = store.id(row), self._came[store.path]
        first = not came[row] and name not in self._used
        came[row] = True
        if _hash(name) in self._shared:
            self._used.add(name)
        return name if first else f"{name}@{position}"


def _hashes(store: Store) -> npt.NDArray[np.uint64]:
    found = np.empty(store.rows, dtype=np.uint64)
    place = 0
    for chunk in store.fields.column("id").chunks:
        for name in chunk.to_pylist():
            found[place] = _hash(str(name))
            place += 1
    return found


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=_ID_BYTES).digest(), "little")


def _repeated(hashes: npt.NDArray[np.uint64]) -> frozenset[int]:
    values, counts = np.unique(hashes, return_counts=True)
    return frozenset(values[counts > 1].tolist())
