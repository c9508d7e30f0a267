"""Damaged files, by name: what crashes, disks, editors and people leave in place of a healthy file.

Every damage is one change, so a failing example is a small one already. Random ones come from a seed.
"""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: Values of every kind that JSON and YAML know, to stand where another kind belongs.
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 7, 2**63, 10**400, 0.5, 1e308, float("nan"), float("inf"), -float("inf")),
    *("", "x", "\x00", "../../outside", "\ud800", "a" * 5000, [], [[]], [None], {}, {"a": {}}, {"": None}),
)
#: Whole files that hold something else.
STRAY: dict[str, bytes] = {
    "empty": b"",
    "a line end": b"\n",
    "null": b"null",
    "a list": b"[]",
    "an object of nothing": b"{}",
    "a text": b'"x"',
    "a number": b"7",
    "a number of 5000 digits": b'{"version": ' + b"9" * 5000 + b"}",
    "not a number": b"NaN",
    "deeply nested lists": b"[" * 100_000,
    "deeply nested objects": b'{"a":' * 100_000,
    "NULs": b"\x00" * 4096,
    "no UTF-8": b"\xff\xfe\xff",
    "random bytes": random.Random(1).randbytes(4096),
    "a page of HTML": b"<html><body>503 Service Unavailable</body></html>\n",
}


def of_any(content: bytes, seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """(name, damaged bytes) of a file in any format: `STRAY`, then `count` times cut, flipped, filled, taken out."""
    yield from STRAY.items()
    yield "with a byte-order mark", b"\xef\xbb\xbf" + content
    yield "written twice", content + content
    yield "without its last byte", content[:-1]
    yield "with more behind", content + b"\x00garbage"
    chance = random.Random(seed)
    for _ in range(count):
        place = chance.randrange(len(content))
        yield f"cut at byte {place}", content[:place]
        bit = 1 << chance.randrange(8)
        yield f"bit {bit} of byte {place} flipped", _with(content, place, bytes([content[place] ^ bit]))
        length = chance.choice((1, 2, 16, 512))
        yield f"{length} NULs at byte {place}", _with(content, place, bytes(length))
        yield f"{length} random bytes at byte {place}", _with(content, place, chance.randbytes(length))
        yield f"{length} bytes left out at byte {place}", content[:place] + content[place + length :]


def of_document(document: Any, seed: int, count: int) -> Iterator[tuple[str, Any]]:
    """(name, damaged copy) of parsed JSON or YAML: a key left out, renamed or added, a value of another kind."""
    chance = random.Random(seed)
    places = list(_places(document))
    for _ in range(count):
        *way, last = chance.choice(places)
        changed = copy.deepcopy(document)
        holder = changed
        for key in way:
            holder = holder[key]
        where = ".".join(map(str, (*way, last)))
        kind = chance.choice(("without", "renamed", "another", "another", "another", "another", "added"))
        if kind == "without" or (isinstance(holder, list) and kind in ("renamed", "added")):
            del holder[last]
            yield f"without {where}", changed
        elif kind == "renamed":
            holder[f"{last}_"] = holder.pop(last)
            yield f"{where} named otherwise", changed
        elif kind == "added":
            holder["new"] = 1
            yield f"a key beside {where}", changed
        else:
            holder[last] = value = chance.choice(ODD)
            yield f"{where} = {str(value)[:20]!r}", changed


def of_json(content: bytes, seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Damage of both kinds to a JSON file."""
    yield from of_any(content, seed, count)
    for name, document in of_document(json.loads(content), seed, 2 * count):
        yield name, json.dumps(document, indent=1).encode()


@contextmanager
def damaged(path: Path, content: bytes) -> Iterator[None]:
    """`path` holds this content in here, and what it held before afterwards. A hard link of it keeps that as well."""
    with instead(path, lambda: path.write_bytes(content)):
        yield


@contextmanager
def instead(path: Path, make: Callable[[], object]) -> Iterator[None]:
    """In here, what `make` makes stands at `path`."""
    kept = path.with_name(f".{path.name}.healthy")
    path.rename(kept)
    try:
        make()
        yield
    finally:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        kept.rename(path)


#: What is no file with that name, by what it is.
NO_FILE: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "a directory": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "50 MB of NULs": lambda path: (path.touch(), os.truncate(path, 50_000_000)),
    "50 MB of brackets": lambda path: path.write_bytes(b"[" * 50_000_000),
}


def _with(content: bytes, place: int, piece: bytes) -> bytes:
    return content[:place] + piece + content[place + len(piece) :]


def _places(document: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside, keys and indices."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        yield (*way, key)
        if isinstance(value, (dict, list)):
            yield from _places(value, (*way, key))
