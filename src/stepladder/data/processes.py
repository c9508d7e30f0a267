"""Work shared among this machine's processors: how many, and how a worker ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from stepladder.errors import RunError

#: So many jobs are done sooner than other processes start.
FEW_JOBS = 2

Job = TypeVar("Job")
Answer = TypeVar("Answer")


def spread(function: Callable[[Job], Answer], work: Sequence[Job]) -> Iterator[Answer]:
    """The function's answers to all jobs, in their order; it and they must be picklable.

    Raises RunError when a process was killed.
    """
    processes = min(usable_processors(), len(work) - FEW_JOBS)
    if processes <= 1:
        yield from map(function, work)
        return
    # Not forked: threads of DuckDB and Arrow may hold locks at this moment.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=start_worker) as pool:
        try:
            yield from pool.map(function, work)
        except BrokenProcessPool:
            hint = "it may have run out of memory: look for giant images with `stepladder data check --sample 20`"
            raise RunError("a process that reads the samples was killed", hint) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def usable_processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_worker() -> None:
    """The main process alone answers Ctrl-C; a worker ends when the main process is gone, however that happened."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    with contextlib.suppress(Exception):
        parent.join()
    os._exit(1)
