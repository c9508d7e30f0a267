"""What every reader of a format yields, and how it says that a file cannot be read on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepladder.errors import InputError, Problem

#: Bytes that a reader takes in at a time; a batch of a store is about as large.
BLOCK = 16 * 2**20

#: The largest record, in bytes (characters in a .json list): what is longer is a file of another format.
LARGEST_RECORD = 64 * 2**20


@dataclass(frozen=True)
class Batch:
    """Some records of one file, in the file's order.

    Attributes:
        file: where they come from.
        records: large_string, what should be JSON objects.
        lines: int64, where in the file each begins: the line, or the row or sample, from 1.
        images: list<large_binary>, one list a record; None where the format embeds none.
        left_out: (line, why) of what could not even become a record.
    """

    file: Path
    records: Any
    lines: Any
    images: Any = None
    left_out: tuple[tuple[int, str], ...] = ()


class SourceError(InputError):
    """A file of a dataset cannot be read on from some place, so what follows would be lost."""

    def __init__(self, place: str, text: str, hint: str) -> None:
        super().__init__([Problem(place, text, hint)])
