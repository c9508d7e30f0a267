"""What a record says, read without judging it: odd shapes give empty values, so a faulty record can still be shown.

`samples.sample_of` is the strict reader, whose word counts for training. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stepladder.data.samples import ROLES, named_images, present

#: Masks that a record may name, in `meta` or beside it, and the image they belong to (-1: the last).
MASKS = {"mask_a": 0, "mask_b": -1}


@dataclass(frozen=True)
class Turn:
    """One turn: a role as chat templates call it, or the file's own word for a speaker that is not known."""

    role: str
    text: str


@dataclass(frozen=True)
class Extra:
    """A file that belongs to an image of the sample.

    Attributes:
        what: "depth" or "mask".
        name: as in the record.
        image: index of its image, -1 for the last.
    """

    what: str
    name: str
    image: int


@dataclass(frozen=True)
class Record:
    """Attributes:
    id: the record's own, or None.
    turns: the conversation; prompt and completion or plain text become turns as well.
    images: names of image files as in the record.
    extras: depth and mask files.
    meta: the record's facts about itself.
    size: (width, height) in pixels that the record claims for its images, or None.
    """

    id: str | None
    turns: tuple[Turn, ...]
    images: tuple[str, ...]
    extras: tuple[Extra, ...]
    meta: Mapping[str, Any]
    size: tuple[int, int] | None

    @property
    def question(self) -> str:
        """Everything before the last turn of the assistant; all turns where there is none."""
        turns = self.turns[:-1] if self.answer is not None else self.turns
        return "\n\n".join(turn.text for turn in turns)

    @property
    def answer(self) -> str | None:
        """The last turn if it is the assistant's, else None."""
        return self.turns[-1].text if self.turns and self.turns[-1].role == "assistant" else None


def read_record(record: Mapping[str, Any]) -> Record:
    """Any JSON object as a `Record`."""
    record = present(record)
    found = record.get("meta")
    meta: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    images = _names(named_images(record))
    depth = [Extra("depth", name, index) for index, name in enumerate(_names(record.get("depth")))]
    masks = [
        Extra("mask", name, image)
        for key, image in MASKS.items()
        for name in _names(meta.get(key, record.get(key)))
        if name
    ]
    own = record.get("id")
    return Record(
        None if own is None else str(own), tuple(_turns(record)), images, (*depth, *masks), meta, _size(record, meta)
    )


def _names(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return tuple(name for name in values if isinstance(name, str))


def _size(record: Mapping[str, Any], meta: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = (meta.get(key, record.get(key)) for key in ("img_w", "img_h"))
    return (width, height) if isinstance(width, int) and isinstance(height, int) else None


def _turns(record: Mapping[str, Any]) -> list[Turn]:
    for key, role, text in (("conversations", "from", "value"), ("messages", "role", "content")):
        if key in record:
            return _list_of_turns(record[key], role, text)
    if "prompt" in record or "completion" in record:
        return [
            *_list_of_turns(record.get("prompt"), "role", "content", "user"),
            *_list_of_turns(record.get("completion"), "role", "content", "assistant"),
        ]
    return _list_of_turns(record.get("text"), "role", "content", "text")


def _list_of_turns(value: Any, role_key: str, text_key: str, of_text: str = "text") -> list[Turn]:
    """Turns of a list, or the one turn that a plain text is, whose role is `of_text`."""
    if isinstance(value, str):
        return [Turn(of_text, value)]
    turns = [turn for turn in value if isinstance(turn, Mapping)] if isinstance(value, list) else []
    return [Turn(_role(turn.get(role_key)), _text(turn.get(text_key))) for turn in turns]


def _role(value: Any) -> str:
    return ROLES.get(value, value) if isinstance(value, str) else "?"


def _text(value: Any) -> str:
    """Text, also of content in pieces as chat formats have it: [{"type": "text", "text": ...}, {"type": "image"}]."""
    if isinstance(value, str):
        return value
    pieces = value if isinstance(value, list) else []
    return "".join(
        piece["text"] for piece in pieces if isinstance(piece, Mapping) and isinstance(piece.get("text"), str)
    )
