"""The ledger: which sample was trained at which step, in which stage. Computed, not recorded.

The order is a pure function of the position, and where each attempt began is in the evidence that `verify` checks; so
what was trained at a step follows from the batch alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stepladder.curriculum.spec import BUILT_IN
from stepladder.data.positions import Stretch, positions
from stepladder.errors import PlanError, Problem
from stepladder.planning.plan import Plan, PlannedStage
from stepladder.records.facts import StageFacts
from stepladder.verify.trained_on import expected_position

if TYPE_CHECKING:
    from stepladder.data.selection import Selection


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


def told_of(plan: Plan, stage: str | None, step: int | None) -> list[PlannedStage]:
    """The stages of which the ledger is asked: the named one, else all with `data:`; only that with the step.

    Raises PlanError for a step that no such stage has.
    """
    chosen = [item for item in plan.chosen(stage) if stage is not None or item.mixture is not None]
    if step is None:
        return chosen
    there = [item for item in chosen if item.start_step < step <= item.end_step]
    if not there:
        ranges = ", ".join(f"{item.name} {item.start_step + 1} to {item.end_step}" for item in chosen)
        raise PlanError(
            [Problem("--step", f"no step {step} there, expected one of {ranges or 'a stage with `data:`'}")]
        )
    return there


def stretches(facts: StageFacts) -> list[Stretch]:
    """What each attempt of a finished stage trained; raises PlanError for a stage that the ledger cannot know."""
    stage = facts.stage
    if stage.script != BUILT_IN or stage.mixture is None:
        text = f"{stage.script} orders its samples itself, expected the built-in trainer and `data:`"
        raise PlanError([Problem(f"stage {stage.name}", text, "choose another stage with --stage")])
    if facts.inherited is not None:
        text = f"was trained by run {facts.inherited.run}, whose ledger tells of it"
        hint = f"ask `stepladder data ledger {facts.inherited.directory}`, or choose another stage with --stage"
        raise PlanError([Problem(f"stage {stage.name}", text, hint)])
    if not facts.segments:
        hint = "the ledger has finished stages; choose one with --stage"
        raise PlanError([Problem(f"stage {stage.name}", "is not finished, expected its evidence", hint)])
    found = []
    for index, (segment, end) in enumerate(zip(facts.segments, facts.segment_ends, strict=True)):
        evidence, start = segment.evidence, expected_position(facts, index)
        data, batch = evidence["data"], evidence["batch"]
        geometry = (int(data["length"]), int(data["span"]), int(batch["accumulation"]))
        found.append(Stretch(segment.start + 1, end, int(start["epoch"]), int(start["samples"]), *geometry))
    return found


def lines(facts: StageFacts, selection: Selection, step: int | None = None) -> Iterator[Line]:
    """The ledger of a finished stage, of one step where it is given. Raises PlanError as `stretches` does."""
    from stepladder.data.lengths import trained_order, window_of  # numpy and pyarrow

    if facts.stage.mixture is None or selection.key != facts.stage.mixture.key:
        text = f"{selection.path} holds another mixture than the stage was planned with"
        hint = "run the curriculum again with the file that the run was made with"
        raise PlanError([Problem(f"stage {facts.stage.name}", text, hint)])
    entry_at = trained_order(selection, window_of(facts.stage.args))
    for stretch in stretches(facts):
        if step is not None and not stretch.first <= step <= stretch.last:
            continue
        for at, position in positions(stretch):
            if step is None or at == step:
                part, row = entry_at(position)
                epoch, name = position // selection.length, part.store.id(row)
                yield Line(at, facts.stage.name, epoch, position, part.dataset, row, name)
