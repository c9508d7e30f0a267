"""A stage's log as it is written: every attempt begins with a heading, and nothing but the log itself is opened."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from stepladder.errors import RunError

#: How the heading of an attempt begins; `diagnosis` finds an attempt's part of a log by it.
HEADING = "=== stepladder: "


@contextlib.contextmanager
def opened(log: Path) -> Iterator[IO[bytes]]:
    """The log, to append to, unbuffered. Raises RunError where a link stands in its place, which is not followed."""
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        what = "is a link, and is not followed" if log.is_symlink() else f"cannot be written: {error.strerror}"
        raise RunError(f"the log {log} {what}", hint="move away what stands there") from None
    with os.fdopen(descriptor, "ab", buffering=0) as file:
        yield file


def begin(log: Path, stage: str, attempt: int) -> None:
    """Write the heading of an attempt."""
    with opened(log) as file:
        heading = f"{HEADING}stage {stage}, attempt {attempt}, {time.strftime('%Y-%m-%d %H:%M:%S')} ===\n"
        file.write(heading.encode())
