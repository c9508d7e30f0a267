"""A stage's selection for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from stepladder.data.printable import printable
from stepladder.data.selection import Selection
from stepladder.data.show.figures import Bin, Kind, shares
from stepladder.data.show.sheet import Placed
from stepladder.planning.plan import PlannedStage

#: Characters of the longest bar.
BAR = 40


def report(
    stage: PlannedStage,
    selection: Selection,
    kinds: Sequence[Kind],
    lengths: Sequence[Bin],
    first: Sequence[Placed],
) -> RenderableType:
    """The whole answer: parts, kinds of samples, their lengths, and the first samples in their order."""
    return Group(heading(stage, selection), _parts(selection), *_kinds(kinds), _lengths(lengths), _first(first))


def heading(stage: PlannedStage, selection: Selection) -> str:
    """The stage in a line."""
    epochs = stage.samples / selection.length
    return (
        f"stage {stage.name}: {selection.mixture}, {selection.length:,} samples an epoch, "
        f"{stage.samples:,} trained in {stage.steps:,} steps: {epochs:.2f} epochs"
    )


def _parts(selection: Selection) -> Table:
    table = _table("part", "dataset", "where", samples="right", repeat="right", share="right", order="left")
    for number, (part, share) in enumerate(zip(selection.parts, shares(selection), strict=True), start=1):
        order = "shuffled" if part.shuffled else "ordered"
        cells = (f"{part.count:,}", str(part.repeat), f"{share:.1%}", order)
        table.add_row(str(number), part.dataset, printable(part.where or "all"), *cells)
    return table


def _kinds(kinds: Sequence[Kind]) -> list[Table]:
    if not kinds:
        return []
    table = _table("column", "value", samples="right", share="right")
    for kind in kinds:
        table.add_row(kind.column, printable(kind.value), f"{kind.samples:,}", f"{kind.share:.1%}")
    return [table]


def _lengths(lengths: Sequence[Bin]) -> Table:
    table = _table(characters="right", samples="right", bar="left")
    table.columns[-1].header = ""
    most = max(item.samples for item in lengths)
    for item in lengths:
        bar = "█" * max(round(BAR * item.samples / most), 1 if item.samples else 0)
        table.add_row(f"{item.first:,} to {item.last:,}", f"{item.samples:,}", bar)
    return table


def _first(first: Sequence[Placed]) -> Table:
    table = _table("part", "sample", "answer", "where", position="right")
    for placed in first:
        answer = " ".join((placed.record.answer or "-").split())
        short = answer if len(answer) <= 30 else f"{answer[:27]}..."
        cells = (placed.part, placed.id, short, _from_here(placed.where), f"{placed.position:,}")
        table.add_row(*map(printable, cells))
    return table


def _from_here(where: str) -> str:
    """`FILE:LINE` from the working directory on, where the file lies below it."""
    return where.removeprefix(f"{Path.cwd()}/")


def _table(*titles: str, **aligned: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in titles:
        table.add_column(title, overflow="fold")
    for title, how in aligned.items():
        table.add_column(title, overflow="fold", justify="right" if how == "right" else "left")
    return table
