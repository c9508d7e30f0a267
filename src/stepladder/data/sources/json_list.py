"""A JSON list of samples in one file, read element by element: the file may be larger than memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pyarrow as pa

from stepladder.data.sources.batch import BLOCK, LARGEST_RECORD, Batch, SourceError

_HINT = "repair the file; in a .jsonl file, one object a line, what is around a broken sample can still be read"
_SPACE = " \t\r\n"


def read_json_list(path: Path) -> Iterator[Batch]:
    """The list's elements as they were written.

    Raises:
        SourceError: not a list, or broken somewhere; where one element ends is not known then, so nothing is skipped.
    """
    records: list[str] = []
    lines: list[int] = []
    size = 0
    with path.open(encoding="utf-8-sig") as file:
        for line, text in _elements(_Text(path, file)):
            records.append(text)
            lines.append(line)
            size += len(text)
            if size > BLOCK:
                yield Batch(path, pa.array(records, pa.large_string()), pa.array(lines, pa.int64()))
                records, lines, size = [], [], 0
    if records:
        yield Batch(path, pa.array(records, pa.large_string()), pa.array(lines, pa.int64()))


def _elements(text: _Text) -> Iterator[tuple[int, str]]:
    """(line it begins at, text) of every element."""
    if text.peek() != "[":
        raise text.error("expected a JSON list of samples", "one object a line needs the name .jsonl")
    text.skip()
    if text.peek() == "]":
        return
    while True:
        text.peek()
        yield text.line, text.element()
        mark = text.peek()
        if mark not in (",", "]"):
            raise text.error(f"expected `,` or `]` after a sample, found {mark or 'the end of the file'!r}", _HINT)
        text.skip()
        if mark == "]":
            break
    if text.peek():
        raise text.error(f"expected nothing after the list, found {text.peek()!r}", _HINT)


class _Text:
    """The file from a position on, with as much of it in memory as an element needs."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self.line = 1
        self._path = path
        self._file = file
        self._held = ""
        self._at = 0
        # Only where an element ends is looked for: a number may have any length.
        self._decoder = json.JSONDecoder(parse_int=len)

    def peek(self) -> str:
        """The next character that is no space, not taken; "" at the end of the file."""
        while True:
            start = self._at
            while self._at < len(self._held) and self._held[self._at] in _SPACE:
                self._at += 1
            self.line += self._held.count("\n", start, self._at)
            if self._at < len(self._held):
                return self._held[self._at]
            if not self._more():
                return ""

    def skip(self) -> None:
        self._at += 1

    def element(self) -> str:
        """The JSON value that begins here, as it was written."""
        while True:
            try:
                _, end = self._decoder.raw_decode(self._held, self._at)
            except (json.JSONDecodeError, RecursionError) as error:
                if len(self._held) - self._at < LARGEST_RECORD and self._more():
                    continue
                raise self._broken(error) from None
            # A number at the end of what is held may go on.
            if end < len(self._held) or not self._more():
                break
        text = self._held[self._at : end]
        self.line += text.count("\n")
        self._at = end
        return text

    def _more(self) -> bool:
        """Read on, twice as much as the element has so far; False at the end of the file."""
        held = self._held[self._at :]
        try:
            read = self._file.read(max(BLOCK, len(held)))
        except UnicodeDecodeError as error:
            raise self.error(f"not UTF-8: {error.reason}", "convert the file to UTF-8") from None
        self._held, self._at = held + read, 0
        return bool(read)

    def _broken(self, error: Exception) -> SourceError:
        if isinstance(error, json.JSONDecodeError):
            self.line += self._held.count("\n", self._at, error.pos)
            return self.error(f"not JSON: {error.msg}", _HINT)
        return self.error("nested too deeply to be read", _HINT)

    def error(self, text: str, hint: str) -> SourceError:
        return SourceError(f"{self._path}:{self.line}", text, hint)
