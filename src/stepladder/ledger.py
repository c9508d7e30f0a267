"""The ledger: which sample was trained at which step, in which stage. Computed, not recorded.

The order is a pure function of the position, and where each attempt began is in the evidence that `verify` checks; so
what was trained at a step follows from the batch alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepladder.errors import PlanError, Problem
from stepladder.facts import StageFacts
from stepladder.resolve import BUILT_IN

if TYPE_CHECKING:
    from stepladder.data.selection import Selection


@dataclass(frozen=True)
class Stretch:
    """Steps that one attempt trained with one batch.

    Attributes:
        first, last: global optimizer steps, both included.
        epoch, samples: where the data stood before `first`: so many samples into that epoch.
        length: samples of an epoch.
        span: samples of one micro-batch over all processes.
        accumulation: micro-batches of a step; fewer where an epoch ends.
    """

    first: int
    last: int
    epoch: int
    samples: int
    length: int
    span: int
    accumulation: int


@dataclass(frozen=True)
class Line:
    """One sample of one step.

    Attributes:
        step: global optimizer step, from 1.
        stage: name of the stage.
        epoch: pass over the mixture, from 0.
        position: samples of the mixture before this one, over all epochs.
        dataset, row: where the sample lies, rows counted from 0.
        id: as the sample says it.
    """

    step: int
    stage: str
    epoch: int
    position: int
    dataset: str
    row: int
    id: str


def positions(stretch: Stretch) -> Iterator[tuple[int, int]]:
    """(global step, position over all epochs) of every sample, in the order of training."""
    epoch, done = stretch.epoch, stretch.samples
    for step in range(stretch.first, stretch.last + 1):
        if done >= stretch.length:
            epoch, done = epoch + 1, 0
        taken = min(stretch.span * stretch.accumulation, stretch.length - done)
        for place in range(done, done + taken):
            yield step, epoch * stretch.length + place
        done += taken


def stretches(facts: StageFacts) -> list[Stretch]:
    """What each attempt of a finished stage trained; raises PlanError for a stage that the ledger cannot know."""
    stage = facts.stage
    if stage.script != BUILT_IN or stage.mixture is None:
        text = f"{stage.script} orders its samples itself, expected the built-in trainer and `data:`"
        raise PlanError([Problem(f"stage {stage.name}", text, "choose another stage with --stage")])
    if not facts.segments:
        hint = "the ledger has finished stages; choose one with --stage"
        raise PlanError([Problem(f"stage {stage.name}", "is not finished, expected its evidence", hint)])
    found = []
    for index, (segment, end) in enumerate(zip(facts.segments, facts.segment_ends, strict=True)):
        evidence, before = segment.evidence, facts.states_before[index]
        fresh = before is None or (index == 0 and stage.handover.data == "fresh")
        start: Mapping[str, Any] = {"epoch": 0, "samples": 0} if fresh or before is None else before["data"]
        data, batch = evidence["data"], evidence["batch"]
        geometry = (int(data["length"]), int(data["span"]), int(batch["accumulation"]))
        found.append(Stretch(segment.start + 1, end, int(start["epoch"]), int(start["samples"]), *geometry))
    return found


def lines(facts: StageFacts, selection: Selection, step: int | None = None) -> Iterator[Line]:
    """The ledger of a finished stage, of one step where it is given. Raises PlanError as `stretches` does."""
    from stepladder.data.lengths import trained_order  # numpy and pyarrow

    entry_at = trained_order(selection, int(facts.stage.args.get("length_window", 0)))
    for stretch in stretches(facts):
        if step is not None and not stretch.first <= step <= stretch.last:
            continue
        for at, position in positions(stretch):
            if step is None or at == step:
                part, row = entry_at(position)
                epoch, name = position // selection.length, part.store.id(row)
                yield Line(at, facts.stage.name, epoch, position, part.dataset, row, name)
