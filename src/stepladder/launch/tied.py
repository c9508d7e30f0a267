"""Commands beside the training, tied to this process: they end when it is killed, and when a stop is requested."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None)

_running: set[subprocess.Popen[Any]] = set()


@contextlib.contextmanager
def running(argv: Sequence[str], **streams: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start a command without a standard input; on leaving it has ended. Raises OSError when it cannot be started."""
    start: Any = end_with_this_process if sys.platform == "linux" else None
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, preexec_fn=start, **streams) as process:
        _running.add(process)
        try:
            yield process
        finally:
            _running.discard(process)


def end_with_this_process() -> None:
    """In a child, before exec, on Linux: be killed when the process that started it ends, however it ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end_all() -> None:
    """Ask what runs now to end: it can be started again, and nobody is left to wait for it."""
    for process in tuple(_running):
        process.terminate()
