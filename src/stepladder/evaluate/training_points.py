"""The points that training samples have for an answer, for the baseline that always answers their mean."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stepladder.data.answers import Point
from stepladder.data.samples import read_samples
from stepladder.data.selection import Selection, is_selection, read_selection
from stepladder.evaluate.metrics import parse_answer
from stepladder.evaluate.selected import drawn_positions

#: Samples of a selection that are looked at: their mean is known to 0.01, and millions take minutes.
MOST = 10_000


def training_points(path: Path) -> list[Point]:
    """The points among the answers of a data file or a selection; samples of other tasks have none.

    Raises DataError for what cannot be read.
    """
    selected = is_selection(path)
    texts = _selected_answers(read_selection(path)) if selected else _answers(path)
    found = (parse_answer(text) for text in texts)
    return [answer for answer in found if isinstance(answer, tuple)]


def _answers(path: Path) -> Iterator[str]:
    for sample in read_samples(path):
        completion = sample.columns.get("completion")
        if isinstance(completion, list):
            yield completion[-1]["content"]


def _selected_answers(selection: Selection) -> Iterator[str]:
    for position in drawn_positions(selection, MOST):
        part, row = selection.at(position)
        yield part.store.fields.column("answer")[row].as_py() or ""
