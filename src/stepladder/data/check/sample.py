"""The checks of one record by itself: pure but for the question whether its files exist."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepladder.data.answers import EXPECTED, NOT_VISIBLE, inside, read_answer
from stepladder.data.check.finding import Fault
from stepladder.data.record import Record, read_record
from stepladder.data.samples import PLACEHOLDER, DataError, sample_of
from stepladder.data.true_paths import file_within, lies_within, true_path

#: Texts of a record are quoted up to this many characters.
QUOTED = 80


@dataclass(frozen=True)
class Rules:
    """What is expected of a dataset's records.

    Attributes:
        pointing: answers are points or NOT_VISIBLE, as most of the dataset's are.
        reader: how the built-in trainer reads them: "answer" (the last turn is trained) or "messages" (with
            `assistant_only_loss`); None where only foreign scripts do.
        depth: a stage trains on depth maps, so every image needs one.
    """

    pointing: bool
    reader: str | None
    depth: bool = False


def faults(raw: Mapping[str, Any], folder: Path, rules: Rules, embedded: Sequence[bytes] | None = None) -> list[Fault]:
    """Everything that is wrong with a record, its pixels apart.

    Args:
        raw: the parsed JSON object.
        folder: where its relative paths start.
        rules: what is expected of it.
        embedded: contents of its image files, for data that hold them; None: the record names files.
    """
    record = read_record(raw)
    images = [] if embedded is not None else [("image", name) for name in record.images]
    pictures = len(images) if embedded is None else len(embedded)
    found = [*_meta(raw), *_placeholders(record, pictures), *(_depth(record, pictures) if rules.depth else ())]
    found += _files([*images, *((extra.what, extra.name) for extra in record.extras)], folder)
    # The trainer's own reader refuses the same things in other words.
    unreadable = (
        []
        if any(fault.kind != "meta" for fault in found)
        else list(_unreadable(raw, record, folder, rules.reader, embedded))
    )
    answers = _answer(record) if rules.pointing and not unreadable else []
    return [*found, *unreadable, *answers]


def _meta(raw: Mapping[str, Any]) -> Iterator[Fault]:
    """One such record makes `meta` JSON text for all of them, so that `meta.is_neg` is no column any more."""
    meta = raw.get("meta")
    if meta is not None and not isinstance(meta, Mapping):
        yield Fault("meta", f"meta {_quoted(repr(meta))}", "a JSON object, or no meta")


def _placeholders(record: Record, images: int) -> Iterator[Fault]:
    marks = sum(turn.text.count(PLACEHOLDER) for turn in record.turns)
    if marks not in (0, images):
        expected = f"none, or {images}: one for each image" if images else "none: the sample has no images"
        yield Fault("placeholders", f"{marks} {PLACEHOLDER}", expected)


def _depth(record: Record, images: int) -> Iterator[Fault]:
    maps = sum(extra.what == "depth" for extra in record.extras)
    if maps != images:
        yield Fault(
            "extra_missing", f"{maps} depth maps for {images} images", "one for each, which use_depth trains on"
        )


def _files(named: Sequence[tuple[str, str]], folder: Path) -> Iterator[Fault]:
    """Faults of (what, name) pairs."""
    for what, name in named:
        if file_within(str(folder), name) is not None:
            continue
        path = true_path(os.path.join(folder, name)) if "\0" not in name else ""  # noqa: PTH118 - as `true_paths` has it
        if not lies_within(path, str(folder)):
            yield Fault("outside" if what == "image" else "extra_outside", f"{what} {name}", f"a path inside {folder}")
        else:
            yield Fault("image_missing" if what == "image" else "extra_missing", f"no {what} file {path}", "a file")


def _unreadable(
    raw: Mapping[str, Any], record: Record, folder: Path, reader: str | None, embedded: Sequence[bytes] | None
) -> Iterator[Fault]:
    if reader is None:
        if not record.turns:
            yield Fault("unreadable", f"no turns among {', '.join(sorted(raw)) or 'no fields'}", "a conversation")
        return
    try:
        sample_of(raw, folder, "", reader == "messages", embedded)
    except DataError as error:
        text = error.text
        # "expected X, found Y" is how the reader speaks of shapes.
        expected, comma, found = text.removeprefix("expected ").rpartition(", found ")
        yield Fault("unreadable", _quoted(found if comma else text), expected if comma else "a sample to train on")


def _answer(record: Record) -> Iterator[Fault]:
    text = record.answer or ""
    answer = read_answer(text)
    if answer is None:
        yield Fault("answer", _quoted(repr(text)), EXPECTED)
        return
    if isinstance(answer, tuple) and not inside(answer):
        yield Fault("coordinates", _quoted(text), "x and y in [0, 1]")
    negative = record.meta.get("is_neg")
    if isinstance(negative, bool) and negative != (answer == NOT_VISIBLE):
        expected = NOT_VISIBLE if negative else "a point"
        yield Fault("is_neg", f"meta.is_neg {str(negative).lower()} with the answer {_quoted(text)}", expected)


def _quoted(text: str) -> str:
    return text if len(text) <= QUOTED else text[: QUOTED - 3] + "..."
