"""Where findings are gathered: all are counted, the first of each kind are kept, so that memory does not grow."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from stepladder.data.check.finding import KINDS, Fault, Finding, severity_of
from stepladder.data.check.uses import Corpus, Rows

#: Findings kept of each kind of a dataset; the others are counted.
KEPT = 200


class Book:
    """The findings of one check.

    Args:
        skip: bad samples are left out, see `severity_of`.

    Attributes:
        counts: findings by kind, kept or not.
    """

    def __init__(self, skip: bool) -> None:
        self._skip = skip
        self.counts: Counter[str] = Counter()
        self._kept: dict[tuple[str, str], list[Finding]] = defaultdict(list)
        self._left_out: dict[str, npt.NDArray[np.bool_]] = {}

    def of_rows(self, corpus: Corpus, faults: Iterable[tuple[int, Fault]]) -> None:
        """Note what is wrong with records, as (row, fault)."""
        if corpus.name not in self._left_out:
            self._left_out[corpus.name] = np.zeros(corpus.store.rows, np.bool_)
        for row, fault in faults:
            if KINDS[fault.kind].left_out:
                self._left_out[corpus.name][row] = True
            if self._room(fault.kind, corpus.name):
                place = (corpus.store.id(row), corpus.store.where(row))
                self._keep(fault, corpus.stages_of(row), corpus.name, *place)

    def note(self, fault: Fault, stages: tuple[str, ...], dataset: str, own: str | None, where: str) -> None:
        """Note a fault that is of no row; the arguments are as `Finding` has them."""
        if self._room(fault.kind, dataset):
            self._keep(fault, stages, dataset, own, where)

    def findings(self) -> list[Finding]:
        """The kept ones, by kind in the order of `KINDS`, then by dataset, in the order found."""
        order = list(KINDS)
        keys = sorted(self._kept, key=lambda key: order.index(key[0]))
        return [finding for key in keys for finding in self._kept[key]]

    def left_out(self, corpus: Corpus, rows: Rows) -> int:
        """How many of these rows `on_bad_sample: skip` leaves out."""
        return int(self._left_out[corpus.name][rows].sum())

    def _room(self, kind: str, dataset: str) -> bool:
        self.counts[kind] += 1
        return len(self._kept[kind, dataset]) < KEPT

    def _keep(self, fault: Fault, stages: tuple[str, ...], dataset: str, own: str | None, where: str) -> None:
        severity = severity_of(fault.kind, self._skip)
        finding = Finding(fault.kind, severity, stages, dataset, own, where, fault.found, fault.expected)
        self._kept[fault.kind, dataset].append(finding)
