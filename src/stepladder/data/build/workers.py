"""Work on many scenes in processes, with a progress bar on stderr where that is a terminal."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stepladder.data.processes import start_worker
from stepladder.errors import RunError

T = TypeVar("T")
R = TypeVar("R")


def each(task: Callable[[T], R], items: Sequence[T], workers: int, doing: str) -> Iterator[tuple[T, R]]:
    """(item, result) pairs as they are done, in any order; an error of a task is raised here.

    Args:
        task: can be pickled; also its arguments and results.
        items: what to call it with.
        workers: processes at most; with one, all is done in this process.
        doing: what the progress bar says.

    Raises RunError when a process was killed.
    """
    columns = TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task(doing, total=len(items))
        done = _in_processes(task, items, workers) if workers > 1 and len(items) > 1 else _here(task, items)
        for pair in done:
            progress.advance(bar)
            yield pair


def _here(task: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[T, R]]:
    return ((item, task(item)) for item in items)


def _in_processes(task: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[tuple[T, R]]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(items)), mp_context=context, initializer=start_worker)
    try:
        futures: dict[Future[R], T] = {pool.submit(task, item): item for item in items}
        for future in as_completed(futures):
            yield futures.pop(future), future.result()
    except BrokenProcessPool:
        raise RunError(
            "a worker process was killed", "if memory ran out, use fewer --workers; then run it again"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
