"""Python stacks of training processes, written into their log by themselves."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil

#: What a worker answers with the stacks of all its threads (stepladder_worker.signals.STACKS).
_STACKS = signal.SIGUSR2
#: Seconds that one process has to write them, and between two looks at whether it has.
_PATIENCE, _PAUSE = 3.0, 0.1
_CAUGHT = re.compile(r"^SigCgt:\s*([0-9a-f]+)$", re.MULTILINE)


def write(ranks: dict[int, psutil.Process], log: Path, output: IO[bytes]) -> None:
    """Have every rank and what it forked write its stacks to the log, one after the other, each under a heading.

    A process that is stopped (SIGSTOP) cannot: its heading says so. Nothing else is done to it.
    """
    for rank, process in sorted(ranks.items()):
        with contextlib.suppress(psutil.Error):
            for member in (process, *process.children(recursive=True)):
                what = f"rank {rank}" if member == process else f"a child of rank {rank}"
                _write_one(member, what, log, output)


def _write_one(process: psutil.Process, what: str, log: Path, output: IO[bytes]) -> None:
    name = f"=== stepladder: Python stacks of {what}, process {process.pid}"
    if process.status() == psutil.STATUS_STOPPED:
        output.write(f"{name}: none, it is stopped by a signal (SIGSTOP) ===\n".encode())
        return
    if not _answers(process):
        return
    output.write(f"{name} ===\n".encode())
    before = log.stat().st_size
    process.send_signal(_STACKS)
    size = before
    for now in _looks(log):
        if now == size > before:
            return  # it wrote, and has finished
        size = now


def _looks(log: Path) -> Iterator[int]:
    """Sizes of the log, for a while."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        time.sleep(_PAUSE)
        yield log.stat().st_size


def _answers(process: psutil.Process) -> bool:
    """Whether the process has a handler of its own for the signal, which would end it otherwise."""
    if sys.platform != "linux":
        return True
    with contextlib.suppress(OSError):
        caught = _CAUGHT.search(Path(f"/proc/{process.pid}/status").read_text("ascii"))
        return caught is not None and bool(int(caught[1], 16) >> (_STACKS - 1) & 1)
    return False
