"""Fingerprints of what files contain, remembered by size, time and inode so that a warm start reads nothing again.

The time is that of the last change of the inode: unlike the time of modification, no program can put it back.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_BLOCK = 4 * 2**20

#: A file changed within the resolution of its file system's clock keeps its time: younger notes are not trusted.
_SETTLED_SECONDS = 2.0


def digest(*values: Any) -> str:
    """32 hex digits (128 bits) of plain values."""
    return hashlib.blake2b(json.dumps(values).encode("utf-8"), digest_size=16).hexdigest()


def content_digest(files: Iterable[Path], cache: Path) -> str:
    """32 hex digits that are equal for files of equal content in equal order, whatever they are called.

    Args:
        files: to be read.
        cache: folder where notes are kept, in `contents/`.
    """
    return digest(*(_file_digest(file, cache / "contents") for file in files))


def _file_digest(file: Path, notes: Path) -> str:
    found = file.stat()
    seen = [found.st_size, found.st_ctime_ns, found.st_ino]
    note = notes / f"{digest(str(file.absolute()))}.json"
    try:
        known = json.loads(note.read_text("utf-8"))
        if known["seen"] == seen:
            return str(known["digest"])
    except (OSError, ValueError, LookupError, TypeError):
        pass
    with file.open("rb") as content:
        hashed = hashlib.blake2b(digest_size=16)
        while block := content.read(_BLOCK):
            hashed.update(block)
    if time.time() - found.st_ctime > _SETTLED_SECONDS:
        write_text(note, json.dumps({"file": str(file), "seen": seen, "digest": hashed.hexdigest()}))
    return hashed.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a file that is there as a whole or not at all, whoever else writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    Path(name).replace(path)
