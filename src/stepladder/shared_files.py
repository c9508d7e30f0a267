"""Files with the same bytes, stored once: a clone where the file system can, else a second name (hard link).

A clone (FICLONE: XFS, btrfs, bcachefs) shares blocks until one side is written, so it is always safe. A hard link is
one file under two names: `torch.save` onto one overwrites both. So it is made only where its file, read-only, cannot
be opened for writing by this user; root opens what it likes, and gets a copy instead.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

#: Smaller files are copied, in bytes: they save nothing.
SMALLEST = 1 << 16
_FICLONE = 0x40049409  # linux/fs.h
_WRITING = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_CHUNK = 1 << 20


def give(source: Path, target: Path) -> int:
    """Make `target` a file with the bytes of `source`, in one move; returns how many bytes are stored once by it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    stored = share(source, target)
    if not stored:
        temporary = _beside(target)
        _copy(source, temporary)
        temporary.replace(target)
    return stored


def share(source: Path, target: Path) -> int:
    """Make `target` a clone or a second name of `source`, in one move; returns how many bytes are stored once by it.

    0 where the file is small, or the file system or the user allows only copies: `target` is then as it was. After a
    hard link both names are read-only.
    """
    size = source.stat().st_size
    if size < SMALLEST or source.is_symlink():
        return 0
    temporary = _beside(target)
    if not (_cloned(source, temporary) or _linked(source, temporary)):
        return 0
    # Of two names of one file `rename` removes none.
    temporary.replace(target)
    temporary.unlink(missing_ok=True)
    return size


def hand_on(source: Path, target: Path) -> None:
    """Make `target` a file with the bytes of `source`, read-only: a clone, else a hard link, else a copy; in one move.

    For folders in which no training is ever started and nothing writes, so that a hard link is safe for root as well.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(target)
    if not _cloned(source, temporary):
        try:
            os.link(source, temporary, follow_symlinks=False)
        except OSError:
            _copy(source, temporary)
    with contextlib.suppress(PermissionError):  # a second name of another user's file
        temporary.chmod(stat.S_IMODE(temporary.stat().st_mode) & ~_WRITING)
    temporary.replace(target)
    temporary.unlink(missing_ok=True)


def same(left: Path, right: Path) -> bool:
    """Whether two files have the same bytes, read from both."""
    if left.stat().st_size != right.stat().st_size:
        return False
    with left.open("rb") as one, right.open("rb") as other:
        while chunk := one.read(_CHUNK):
            if chunk != other.read(_CHUNK):
                return False
    return True


def protect(folder: Path) -> None:
    """Make every file below a folder read-only. The folders stay as they are, so that it can be moved and deleted."""
    for file in _files(folder):
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & _WRITING:
            with contextlib.suppress(PermissionError):  # another user's: not ours to protect
                file.chmod(mode & ~_WRITING)


def release(folder: Path) -> None:
    """Make the files of a stage's folder its own again, each writable and under one name, but not its checkpoints.

    Called before a stage is launched: what its script writes must not reach into a checkpoint.
    """
    own = [path for path in folder.iterdir() if not path.name.startswith("checkpoint-")] if folder.is_dir() else []
    for file in (file for path in own for file in ([path] if path.is_file() else _files(path))):
        found = file.lstat()
        if not stat.S_ISREG(found.st_mode):
            continue
        if found.st_nlink > 1:
            temporary = _beside(file)
            _copy(file, temporary)
            temporary.replace(file)
        elif not found.st_mode & stat.S_IWUSR:
            file.chmod(stat.S_IMODE(found.st_mode) | stat.S_IWUSR)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _beside(target: Path) -> Path:
    """A name for what takes the place of `target` in one move; nothing is there."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    return temporary


def _cloned(source: Path, target: Path) -> bool:
    with source.open("rb") as old, target.open("xb") as new:
        try:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
        except OSError:
            cloned = False
        else:
            cloned = True
    if not cloned:
        target.unlink()
    return cloned


def _linked(source: Path, target: Path) -> bool:
    """A second name for `source`, where a read-only file cannot be written by this user."""
    mode = stat.S_IMODE(source.stat().st_mode)
    try:
        source.chmod(mode & ~_WRITING)
        if os.access(source, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            source.chmod(mode)
            return False
        os.link(source, target)
    except OSError:
        with contextlib.suppress(OSError):
            source.chmod(mode)
        return False
    return True


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as old, target.open("xb") as new:
        shutil.copyfileobj(old, new, _CHUNK)
