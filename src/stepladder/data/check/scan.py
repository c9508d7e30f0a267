"""One pass over a dataset's records in several processes: each record by itself, and the pixels of a sample of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stepladder.data.check import pixels, sample
from stepladder.data.check.finding import Fault
from stepladder.data.check.sample import Rules
from stepladder.data.check.uses import Rows
from stepladder.data.processes import spread
from stepladder.data.record import read_record
from stepladder.data.records import Store, held_store

#: Records that a process takes at once. Pixels take a thousand times as long.
RECORDS_AT_ONCE, PIXELS_AT_ONCE = 4096, 32

Answer = list[tuple[int, Fault]]


@dataclass(frozen=True)
class Job:
    """What a process does at once.

    Attributes:
        store: folder of the store.
        rows: the records.
        rules: what is expected of a record; None looks at pixels alone.
    """

    store: Path
    rows: Rows
    rules: Rules | None


def jobs(store: Store, rows: Rows, rules: Rules, decoded: Rows) -> list[Job]:
    """The whole work on one dataset: all its `rows` as records, the rows `decoded` as pixels."""
    return [
        *(Job(store.path, part, rules) for part in _parts(rows, RECORDS_AT_ONCE)),
        *(Job(store.path, part, None) for part in _parts(decoded, PIXELS_AT_ONCE)),
    ]


def drawn(rows: Rows, count: int | None, seed: int) -> Rows:
    """`count` of the rows by the seed, rising; all of them for None or where there are not more."""
    if count is None or count >= len(rows):
        return rows
    chosen: Rows = np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))
    return chosen


def results(work: Sequence[Job], advance: Callable[[int], None]) -> Iterator[tuple[int, Fault]]:
    """(row, fault) of everything found, in the order of the work, which is shared among this machine's processors.

    Args:
        work: jobs, all of one store.
        advance: told how many rows are done.

    Raises RunError when a process was killed.
    """
    for job, answer in zip(work, spread(run, work), strict=True):
        yield from answer
        advance(len(job.rows))


def run(job: Job) -> Answer:
    """Do one job; (row, fault) of everything found."""
    store = held_store(job.store)
    return [(row, fault) for row in job.rows.tolist() for fault in _faults(store, row, job.rules)]


def _faults(store: Store, row: int, rules: Rules | None) -> list[Fault]:
    raw, embedded = store.record(row), store.images(row)
    if rules is not None:
        return sample.faults(raw, store.folder, rules, embedded)
    return pixels.faults(read_record(raw), store.folder, embedded)


def _parts(rows: Rows, size: int) -> Iterator[Rows]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
