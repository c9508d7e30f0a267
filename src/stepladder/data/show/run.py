"""`stepladder data show`: a stage's selection in figures for the terminal, and samples of it as a sheet."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import RenderableType

from stepladder.data.columns import columns_of
from stepladder.data.lengths import trained_order, window_of
from stepladder.data.positions import after
from stepladder.data.record import read_record
from stepladder.data.selection import Selection
from stepladder.data.show import figures, sheet, terminal
from stepladder.data.show.sheet import Placed
from stepladder.data.stages import CurriculumData
from stepladder.data.usable import Look
from stepladder.errors import PlanError, Problem
from stepladder.planning.plan import Plan, PlannedStage

#: Samples at the beginning of the order that the terminal shows.
FIRST = 10


def show(data: CurriculumData, out: Path | None, samples: int) -> RenderableType:
    """What the first of the stages trains on; writes nothing but stores, and the sheet to `out` if that is given.

    Args:
        data: of one stage.
        out: HTML file to write.
        samples: how many the sheet has, spread evenly over what the stage trains.

    Raises PlanError for data that cannot be used, and where `out` cannot be written.
    """
    item = data.stages[0]
    # What is wrong with images is shown as well, where no sample is left out for it.
    skip = item.mixture.on_bad_sample == "skip"
    with tempfile.TemporaryDirectory(prefix="stepladder-show-") as scratch:
        # Not in the run's directory, where a stage that has begun keeps the selection that it trains on.
        place = Path(scratch) / "selection"
        selection = item.selected_in(place, None if skip else Look(images=False))
        start = _start(data.plan, item.stage, selection.length)
        if out is not None:
            _write(out, _sheet(item.stage, selection, start, samples))
        columns = [columns_of(item.mixture.sources[part.dataset], part.store)[0] for part in selection.parts]
        first = list(_placed(item.stage, selection, range(start, start + min(FIRST, selection.length))))
        kinds, lengths = figures.kinds(selection, columns), figures.lengths(selection)
        return terminal.report(item.stage, selection, kinds, lengths, first)


def _sheet(stage: PlannedStage, selection: Selection, start: int, samples: int) -> str:
    trained = after(start, stage.steps, stage.batch.samples, selection.length) - start
    count = min(samples, trained)
    positions = [start + index * trained // count for index in range(count)]
    facts = [
        ("samples", f"{selection.length:,} an epoch, {trained:,} trained in {stage.steps:,} steps"),
        ("batch", f"{stage.batch.samples} samples a step"),
        ("shown", f"{count} samples, spread evenly over positions {start:,} to {start + trained - 1:,}"),
        ("answer", "a cross in a ring on the last image"),
    ]
    return sheet.render(f"Stage {stage.name}: {selection.mixture}", facts, _placed(stage, selection, positions))


def _placed(stage: PlannedStage, selection: Selection, positions: Iterable[int]) -> Iterator[Placed]:
    """The samples at positions of the stage's order."""
    order = trained_order(selection, window_of(stage.args))
    for position in positions:
        part, row = order(position)
        name = f"{selection.parts.index(part) + 1} {part.dataset}"
        store, record = part.store, read_record(part.store.record(row))
        yield Placed(position, name, store.id(row), store.where(row), record, store.folder, store.images(row))


def _start(plan: Plan, stage: PlannedStage, length: int) -> int:
    """The position of the stage's first sample: `data: continue` goes on where the stages before it ended."""
    position = 0
    for earlier in plan.stages:
        if stage.data_start_step <= earlier.start_step < stage.start_step:
            position = after(position, earlier.steps, earlier.batch.samples, length)
    return position


def _write(out: Path, text: str) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, "utf-8")
    except OSError as error:
        hint = "name a file in a folder that can be written: --out FILE.html"
        raise PlanError([Problem(str(out), f"cannot be written: {error.strerror}", hint)]) from None
