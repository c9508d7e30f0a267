"""The checks of a stage's selection as a whole: large enough, and no sample through two parts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stepladder.data.check.finding import Fault
from stepladder.data.check.uses import Corpus
from stepladder.data.positions import after
from stepladder.data.selection import Selection
from stepladder.planning.plan import PlannedStage


@dataclass(frozen=True)
class Standing:
    """A stage and its selection in figures.

    Attributes:
        stage: its name.
        mixture: the mixture's name.
        samples: samples of one epoch, repeats counted.
        step: samples of one optimizer step.
        trained: samples that the stage's steps take.
        left_out: records that `on_bad_sample: skip` leaves out, as far as they were looked at.
    """

    stage: str
    mixture: str
    samples: int
    step: int
    trained: int
    left_out: int

    @property
    def epochs(self) -> float:
        """Passes over the selection that the stage's steps are."""
        return self.trained / self.samples


def standing(stage: PlannedStage, selection: Selection, left_out: int) -> Standing:
    """A stage and its selection in figures."""
    trained = after(0, stage.steps, stage.batch.samples, selection.length)
    return Standing(stage.name, selection.mixture, selection.length, stage.batch.samples, trained, left_out)


def small(standing: Standing) -> Iterator[Fault]:
    """A selection that does not fill one step would come several times in it."""
    if standing.samples < standing.step:
        found = f"{standing.samples} samples in {standing.mixture}"
        yield Fault("small", found, f"at least one global batch, {standing.step}")


def twice(corpus: Corpus, stage: str) -> Iterator[tuple[int, Fault]]:
    """(row, fault) of the first sample that two parts of a stage's mixture have in common, for each two parts."""
    uses = [use for use in corpus.uses if use.stage == stage]
    for first, second in itertools.combinations(uses, 2):
        common = np.intersect1d(first.rows, second.rows)
        if len(common):
            found = f"{len(common)} samples in part {first.part + 1} and in part {second.part + 1}, this one first"
            expected = "each sample in one part; `repeat` takes samples several times"
            yield int(common[0]), Fault("twice", found, expected)
