"""Samples that cannot be trained on, found before anything trains and not after an hour of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from stepladder.data.image_files import bad_depth, bad_images
from stepladder.data.processes import spread
from stepladder.data.records import Store, held_store
from stepladder.data.samples import DataError, sample_of

#: Records that a process takes at once.
_AT_ONCE = 4096

#: What is noted of a row. One that was refused is looked at again: an image may have come since.
_UNSEEN, _READ = 0, 1

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Look:
    """How closely samples are looked at before they are selected.

    Attributes:
        images: image files must be there.
        reader: how the built-in trainer reads the records, "answer" or "messages" (`assistant_only_loss`); None where
            another script does, whose formats are its own.
        depth: every image needs a depth map, whose file is looked at like an image's.
    """

    images: bool = True
    reader: Literal["answer", "messages"] | None = None
    depth: bool = False


#: Files there, records as their script may have them.
FILES = Look()


def unusable(store: Store, rows: Rows, cache: Path, look: Look, decoded: bool) -> list[tuple[int, str]]:
    """(row, why) of the records that cannot be trained on.

    Args:
        store: the records.
        rows: those that are looked at.
        cache: folder where it is noted what was seen.
        look: how closely.
        decoded: decode every image as well, where images are looked at.
    """
    found = bad_images(store, rows, cache, decoded) if look.images else []
    if look.images and look.depth:
        # The first fault of a row; an image's comes before that of its depth map.
        found = sorted((dict(reversed(bad_depth(store, rows, cache, decoded))) | dict(found)).items())
    if look.reader is not None:
        known = {row for row, _ in found}
        found += [bad for bad in _unreadable(store, rows, look.reader, cache) if bad[0] not in known]
    return found


def _unreadable(store: Store, rows: Rows, reader: str, cache: Path) -> list[tuple[int, str]]:
    """(row, why) of the records that give the trainer no sample; a byte a row notes which were read."""
    note = cache / "readable" / f"{store.fingerprint}.{reader}.npy"
    state = _noted(note, store.rows)
    unseen = rows[state[rows] == _UNSEEN]
    work = [unseen[first : first + _AT_ONCE] for first in range(0, len(unseen), _AT_ONCE)]
    found = [bad for part in spread(partial(_refused, store.path, reader == "messages"), work) for bad in part]
    if len(unseen) > len(found):
        state[unseen] = _READ
        state[[row for row, _ in found]] = _UNSEEN
        _write(note, state)
    return found


def _noted(path: Path, rows: int) -> npt.NDArray[np.uint8]:
    try:
        state = np.load(path, allow_pickle=False)
    except (OSError, ValueError):
        return np.zeros(rows, np.uint8)
    return state if state.shape == (rows,) and state.dtype == np.uint8 else np.zeros(rows, np.uint8)


def _write(path: Path, state: npt.NDArray[np.uint8]) -> None:
    """The last of several processes wins; what it did not see is only looked at again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    with new.open("wb") as file:
        np.save(file, state)
    new.replace(path)


def _refused(path: Path, keep_messages: bool, rows: Sequence[int]) -> list[tuple[int, str]]:
    store = held_store(path)
    found = []
    for row in map(int, rows):
        try:
            sample_of(store.record(row), store.folder, "", keep_messages, store.images(row))
        except DataError as error:
            found.append((row, error.text))
    return found
