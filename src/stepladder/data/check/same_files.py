"""Image files that are told whatever they are called: the same file by its inode, a copy by its content."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable

from stepladder.data.true_paths import true_path


class KnownFiles:
    """Files that others are compared with. Contents are read only where two files have the same size."""

    def __init__(self, paths: Iterable[str]) -> None:
        """Paths that lead to no file are left aside."""
        self._by_path: set[str] = set()
        self._by_inode: dict[tuple[int, int], str] = {}
        self._by_size: dict[int, list[str]] = defaultdict(list)
        self._by_content: dict[int, dict[bytes, str]] = {}
        for path in map(true_path, paths):
            if path not in self._by_path and (seen := _seen(path)) is not None:
                self._by_path.add(path)
                self._by_inode.setdefault((seen.st_dev, seen.st_ino), path)
                self._by_size[seen.st_size].append(path)

    def same_as(self, path: str) -> str | None:
        """The true path of the known file that this one is, or is a copy of; None for no such file."""
        true = true_path(path)
        if true in self._by_path:
            return true
        seen = _seen(true)
        if seen is None:
            return None
        same = self._by_inode.get((seen.st_dev, seen.st_ino))
        return same or (self._copied(true, seen.st_size) if seen.st_size in self._by_size else None)

    def _copied(self, path: str, size: int) -> str | None:
        if size not in self._by_content:
            known = ((_content(path), path) for path in self._by_size[size])
            self._by_content[size] = {content: path for content, path in known if content is not None}
        content = _content(path)
        return None if content is None else self._by_content[size].get(content)


def _seen(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116 - a Path costs more, millions of times
    except (OSError, ValueError):  # a NUL in a name
        return None


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError:
        return None
