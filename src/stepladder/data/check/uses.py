"""Which rows of which store a check is about: what stages train on, and what evaluation measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from stepladder.curriculum import hf_args
from stepladder.curriculum.spec import BUILT_IN
from stepladder.data.records import Store
from stepladder.data.selection import Selection
from stepladder.planning.plan import PlannedStage

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Use:
    """Rows that one part of a stage's mixture selects.

    Attributes:
        stage: the stage's name.
        part: index of the part in the mixture, from 0.
        rows: rows of the store, in any order.
    """

    stage: str
    part: int
    rows: Rows


@dataclass(frozen=True)
class Evaluated:
    """Rows of a dataset that evaluation uses.

    Attributes:
        name: of the dataset.
        store: its records.
        rows: of the store, in any order.
    """

    name: str
    store: Store
    rows: Rows


@dataclass(frozen=True)
class Corpus:
    """One dataset, with everything that uses it.

    Attributes:
        name: as in the curriculum; the first one where several name the same file.
        store: its records.
        uses: by the stages; empty for a dataset that only evaluation uses.
        held_out: rows that evaluation uses, rising, each once.
        reader, depth: see `sample.Rules`.
    """

    name: str
    store: Store
    uses: tuple[Use, ...]
    held_out: Rows
    reader: str | None
    depth: bool

    @property
    def embedded(self) -> bool:
        """Whether the dataset holds its images itself, so that their names are no files."""
        return "images" in self.store.records.column_names

    @cached_property
    def trained(self) -> Rows:
        """Rows that any stage trains on, rising, each once."""
        return _union([use.rows for use in self.uses])

    @cached_property
    def rows(self) -> Rows:
        """Rows that are checked, rising, each once."""
        return _union([self.trained, self.held_out])

    @cached_property
    def _by_stage(self) -> dict[str, Rows]:
        names = dict.fromkeys(use.stage for use in self.uses)
        return {name: _union([use.rows for use in self.uses if use.stage == name]) for name in names}

    def stages_of(self, row: int) -> tuple[str, ...]:
        """The stages that train on a row, in their order."""
        return tuple(name for name, rows in self._by_stage.items() if _holds(rows, row))

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that train on any of it, in their order."""
        return tuple(self._by_stage)

    def rows_of(self, stage: str) -> Rows:
        """Rows that a stage trains on, rising, each once."""
        return self._by_stage.get(stage, np.empty(0, np.int64))

    def row_of(self, own: str) -> int | None:
        """The first row with an id."""
        row = pc.index(self.store.fields["id"], own).as_py()
        return None if row < 0 else int(row)


def gather(made: Sequence[tuple[PlannedStage, Selection]], evaluated: Sequence[Evaluated]) -> list[Corpus]:
    """The datasets of stages with their selections, and of evaluation; each store once."""
    stores: dict[Path, tuple[str, Store]] = {}
    uses: dict[Path, list[Use]] = {}
    trained: dict[Path, list[PlannedStage]] = {}
    for stage, selection in made:
        for index, part in enumerate(selection.parts):
            stores.setdefault(part.store_path, (part.dataset, part.store))
            uses.setdefault(part.store_path, []).append(Use(stage.name, index, part.rows))
            if stage.script == BUILT_IN:
                trained.setdefault(part.store_path, []).append(stage)
    for item in evaluated:
        stores.setdefault(item.store.path, (item.name, item.store))
    found = []
    for path, (name, store) in stores.items():
        held_out = _union([item.rows for item in evaluated if item.store.path == path])
        stages = trained.get(path, [])
        reader = _reader(stages, len(held_out) > 0)
        depth = any(hf_args.is_on(stage.args.get("use_depth")) for stage in stages)
        found.append(Corpus(name, store, tuple(uses.get(path, ())), held_out, reader, depth))
    return found


def _reader(stages: Sequence[PlannedStage], evaluated: bool) -> str | None:
    """How the records are read, by the stages of the built-in trainer; see `sample.Rules`."""
    if any(hf_args.is_on(stage.args.get("assistant_only_loss")) for stage in stages):
        return "messages"
    return "answer" if stages or evaluated else None


def _union(parts: Sequence[Rows]) -> Rows:
    return np.unique(np.concatenate([np.empty(0, np.int64), *parts]))


def _holds(rows: Rows, row: int) -> bool:
    place = int(np.searchsorted(rows, row))
    return place < len(rows) and int(rows[place]) == row
