"""Files of a run are the run's own: no link that somebody planted is written through, nobody else may write to them.

Standard library only, Python 3.10 and newer.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

#: What no file of a run grants: writing by everybody.
_NOT_GRANTED = 0o002


def fresh(path: Path) -> IO[bytes]:
    """A new file, to write to. What stood there is removed; a link that appears meanwhile is not followed.

    Raises FileExistsError then.
    """
    path.unlink(missing_ok=True)
    return path.open("xb")


def grown(path: Path) -> IO[bytes]:
    """A file that is read and appended to, made where it is missing.

    Raises OSError (ELOOP) where a link stands in its place.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o666), "a+b")


def beside(path: Path) -> Path:
    """The name under which this process writes what then takes the place of `path` in one move."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def keep_others_out() -> None:
    """Files that this process and its children make are never writable by everybody, whatever its mask was."""
    os.umask(os.umask(0o077) | _NOT_GRANTED)
