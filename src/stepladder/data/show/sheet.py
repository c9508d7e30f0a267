"""Samples as one self-contained HTML page: no scripts, nothing loaded from elsewhere, every text escaped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from stepladder.data.answers import inside, read_answer
from stepladder.data.record import Record
from stepladder.data.show.drawing import Picture, picture
from stepladder.data.true_paths import file_within

#: Characters of a text in the sheet; samples of plain text can be books.
TEXT_SHOWN = 4000


@dataclass(frozen=True)
class Placed:
    """A sample at its position.

    Attributes:
        position: in the stage's order, from 0.
        part: what part of the mixture it comes from, for people.
        id: the sample's id.
        where: `FILE:LINE`.
        record: what it says.
        folder: where its relative paths start.
        embedded: contents of its image files, for data that hold them; None: the record names files.
    """

    position: int
    part: str
    id: str
    where: str
    record: Record
    folder: Path
    embedded: Sequence[bytes] | None = None


@dataclass(frozen=True)
class Card:
    """A sample as the template shows it.

    Attributes:
        placed: the sample.
        pictures: (caption, picture) in the order of its images.
        question: what comes before the answer, shortened to `TEXT_SHOWN` characters.
        answer: the last turn of the assistant; "" where there is none.
        badge: what the answer is, in a word: "NOT_VISIBLE", "point", "outside [0, 1]", or "".
        meta: (name, value) of the record's facts.
    """

    placed: Placed
    pictures: list[tuple[str, Picture]]
    question: str
    answer: str
    badge: str
    meta: list[tuple[str, str]]


def render(title: str, facts: Sequence[tuple[str, str]], samples: Iterable[Placed]) -> str:
    """The page.

    Args:
        title: its heading.
        facts: (name, value) lines below it.
        samples: in the order of the page.
    """
    loader = PackageLoader("stepladder.data.show", ".")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.get_template("sheet.html.j2")
    return template.render(title=title, facts=facts, cards=[card(sample) for sample in samples])


def card(placed: Placed) -> Card:
    """A sample with its images read, and its answer drawn on the last of them."""
    record = placed.record
    answer = read_answer(record.answer or "")
    point = answer if isinstance(answer, tuple) and inside(answer) else None
    badge = answer if isinstance(answer, str) else "point" if point else "outside [0, 1]" if answer else ""
    named = [file_within(str(placed.folder), name) for name in record.images]
    sources: list[str | bytes | None] = list(named if placed.embedded is None else placed.embedded)
    last = len(sources) - 1
    pictures = [picture(source, point if index == last else None) for index, source in enumerate(sources)]
    return Card(
        placed,
        [(_caption(record, index), found) for index, found in enumerate(pictures)],
        _shortened(record.question),
        _shortened(record.answer or ""),
        badge,
        [(name, _value(value)) for name, value in record.meta.items()],
    )


def _caption(record: Record, index: int) -> str:
    """`A: img/1.png`; without a name where the dataset holds the image itself."""
    letter = chr(ord("A") + index) if index < 26 else str(index + 1)
    return f"{letter}: {record.images[index]}" if index < len(record.images) else letter


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _shortened(text: str) -> str:
    rest = len(text) - TEXT_SHOWN
    return text if rest <= 0 else f"{text[:TEXT_SHOWN]} ... and {rest} more characters"
