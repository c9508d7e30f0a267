"""Commands beside the training, tied to this process: they end when it is killed, and when a stop is requested."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from stepladder.launch import guard

_running: set[subprocess.Popen[Any]] = set()


@contextlib.contextmanager
def running(argv: Sequence[str], **streams: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start a command without a standard input; on leaving it has ended, on Linux with all that it started.

    Raises OSError when it cannot be started.
    """
    start = _guarded if sys.platform == "linux" else subprocess.Popen
    with start(argv, stdin=subprocess.DEVNULL, **streams) as process:
        _running.add(process)
        try:
            yield process
        finally:
            _running.discard(process)


def _guarded(argv: Sequence[str], **streams: Any) -> subprocess.Popen[Any]:
    """See `guard`: a child can be tied to this process by the kernel, its own children cannot."""
    reader, writer = os.pipe()
    try:
        words = [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), str(writer), *argv]
        process = subprocess.Popen(words, pass_fds=[writer], **streams)
    finally:
        os.close(writer)
    with os.fdopen(reader, "rb") as report:
        trouble = report.read()
    if trouble:
        process.communicate()
        raise OSError(int(trouble), os.strerror(int(trouble)))
    return process


def end_all() -> None:
    """Ask what runs now to end: it can be started again, and nobody is left to wait for it."""
    for process in tuple(_running):
        process.terminate()
