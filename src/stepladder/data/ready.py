"""A stage's data made ready before its processes start: selected, exported where its script wants a file, recorded."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from stepladder import console
from stepladder.data.stages import StageData, data_of
from stepladder.errors import PlanError, Problem
from stepladder.paths import RunDirectory
from stepladder.planning.plan import Plan, PlannedStage
from stepladder.records.events import Event, last
from stepladder.records.journal import Journal
from stepladder_worker.contract import ContractError, read_sealed, write_sealed

if TYPE_CHECKING:
    from stepladder.data.selection import Selection


def make_ready(plan: Plan, stage: PlannedStage, begun: bool, journal: Journal | None) -> None:
    """Select what the stage's `data:` says; nothing to do for a stage whose script finds its data by itself.

    Args:
        begun: the stage has a checkpoint, so it must go on with the very samples it began with.
        journal: where it is recorded; None for a stage that is started by hand.

    Raises PlanError for data that cannot be used, and for data that changed since the stage began.
    """
    data = data_of(plan, stage)
    if data is None:
        return
    recorded = _recorded(plan, stage)
    before = _fingerprint(data.files.selection) or recorded
    if begun and before is not None:
        _require_unchanged(data, before)
    selection = data.selection()
    _require_same_as_before(plan, stage, selection)
    exported = _export(data, selection)
    if selection.fingerprint == before and not exported and recorded == before:
        return
    facts = {"mixture": selection.mixture, "fingerprint": selection.fingerprint, "samples": selection.length}
    if journal is not None:
        journal.append(Event.SELECTED, stage=stage.name, **facts, left_out=selection.left_out)
    console.note(f"data of stage {stage.name}: {selection.mixture}, {selection.length:,} samples an epoch")
    for dataset, count in selection.unscored.items():
        console.warn(f"stage {stage.name}: {count:,} samples of {dataset} have no score")
    if selection.left_out:
        console.warn(f"stage {stage.name}: {selection.left_out} bad samples are left out: {data.files.left_out}")


def _recorded(plan: Plan, stage: PlannedStage) -> str | None:
    """The fingerprint of what was last selected for a stage, by the journal."""
    events = Journal(RunDirectory(Path(plan.output_dir)).journal).read()
    found = last(events, stage.name, Event.SELECTED).get("fingerprint")
    return None if found is None else str(found)


def _require_same_as_before(plan: Plan, stage: PlannedStage, selection: Selection) -> None:
    """A position is carried over a boundary only within the same samples in the same order."""
    if stage.handover.data != "continue" or stage.index == 1:
        return
    earlier = plan.stages[stage.index - 2]
    before = _recorded(plan, earlier)
    if before is not None and before != selection.fingerprint:
        text = f"continues the data of stage {earlier.name}, which are not the same any more"
        hint = f"put the files back as they were, or set both aside with `--fresh --stage {earlier.name}`"
        raise PlanError([Problem(f"stage {stage.name}", text, hint)])


def _fingerprint(selection: Path) -> str | None:
    try:
        return str(read_sealed(selection)["fingerprint"])
    except (ContractError, KeyError):
        return None


def _require_unchanged(data: StageData, before: str) -> None:
    """Select beside the selection that the stage trained on, so that a difference does not write over it."""
    again = data.out.with_name(f".{data.out.name}.{os.getpid()}")
    try:
        found = data.selected_in(again).fingerprint
    finally:
        shutil.rmtree(again, ignore_errors=True)
    if found != before:
        text = f"has begun, and its data ({data.mixture.name}) are not those it began with"
        hint = f"put the files back as they were, or set the stage aside with `--fresh --stage {data.stage.name}`"
        raise PlanError([Problem(f"stage {data.stage.name}", text, hint)])


def _export(data: StageData, selection: Selection) -> bool:
    """Write the samples as a file where an argument of the script names it; returns whether it was written now."""
    out = data.files.export
    wanted = any(name in word for word in data.stage.script_argv for name in (str(out), str(out.parent)))
    note = data.files.export_note
    if not wanted or _fingerprint(note) == selection.fingerprint:
        return False
    from stepladder.data.export import export

    count = export(selection, out, placeholders=False)
    write_sealed(note, {"fingerprint": selection.fingerprint, "samples": count})
    return True
