"""Text files: JSON objects one a line, and plain text a paragraph a sample."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from stepladder.data.sources.batch import BLOCK, LARGEST_RECORD, Batch, SourceError


def read_jsonl(path: Path) -> Iterator[Batch]:
    """Lines as they are, blank ones left out; whether they hold JSON objects is not looked at here.

    Raises:
        SourceError: a line longer than LARGEST_RECORD.
    """
    first = 1
    with path.open("rb") as file:
        while block := _block(file, path, first):
            records, left_out = _lines(block.removeprefix(codecs.BOM_UTF8) if first == 1 else block, first)
            numbers = pa.array(np.arange(first, first + len(records), dtype=np.int64))
            kept = pc.not_equal(records, "")
            yield Batch(path, records.filter(kept), numbers.filter(kept), left_out=left_out)
            first += len(records)


def _block(file: BinaryIO, path: Path, first: int) -> bytes:
    """About BLOCK bytes that end where a line ends; empty at the end of the file."""
    block = file.read(BLOCK)
    if block and not block.endswith(b"\n"):
        rest = file.readline(LARGEST_RECORD)
        if len(rest) == LARGEST_RECORD and not rest.endswith(b"\n"):
            number = first + block.count(b"\n")
            raise SourceError(
                f"{path}:{number}",
                f"a line of more than {LARGEST_RECORD >> 20} MiB, expected one JSON object a line",
                "a JSON list needs the name .json",
            )
        block += rest
    return block


def _lines(block: bytes, first: int) -> tuple[Any, tuple[tuple[int, str], ...]]:
    """The block's lines as large_string, trimmed, and what is no UTF-8, which becomes blank."""
    if not block.endswith(b"\n"):
        block += b"\n"
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        texts, left_out = _line_by_line(block, first)
        return pc.utf8_trim_whitespace(pa.array(texts, pa.large_string())), left_out
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
    offsets = np.concatenate([[0], ends + 1]).astype(np.int64)
    lines = pa.LargeStringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(block))
    return pc.utf8_trim_whitespace(lines), ()


def _line_by_line(block: bytes, first: int) -> tuple[list[str], tuple[tuple[int, str], ...]]:
    texts: list[str] = []
    left_out: list[tuple[int, str]] = []
    for number, line in enumerate(block.split(b"\n")[:-1], start=first):
        try:
            texts.append(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            texts.append("")
            left_out.append((number, f"not UTF-8: {error.reason} at byte {error.start} of the line"))
    return texts, tuple(left_out)


def read_txt(path: Path) -> Iterator[Batch]:
    """Paragraphs, parted by empty lines, each as {"text": ...}.

    Raises:
        SourceError: the file is not UTF-8.
    """
    records: list[str] = []
    lines: list[int] = []
    size = 0
    for line, paragraph in _paragraphs(path):
        records.append(json.dumps({"text": paragraph}, ensure_ascii=False))
        lines.append(line)
        size += len(paragraph)
        if size > BLOCK:
            yield _batch(path, records, lines)
            records, lines, size = [], [], 0
    if records:
        yield _batch(path, records, lines)


def _batch(path: Path, records: list[str], lines: list[int]) -> Batch:
    return Batch(path, pa.array(records, pa.large_string()), pa.array(lines, pa.int64()))


def _paragraphs(path: Path) -> Iterator[tuple[int, str]]:
    """(line it begins at, text) of every paragraph that is not blank."""
    held: list[str] = []
    first = number = 1
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line == "\n":
                    if text := "".join(held).strip():
                        yield first, text
                    held = []
                else:
                    first = first if held else number
                    held.append(line)
    except UnicodeDecodeError as error:
        hint = "convert the file to UTF-8"
        raise SourceError(str(path), f"not UTF-8 after line {number}: {error.reason}", hint) from None
    if text := "".join(held).strip():
        yield first, text
