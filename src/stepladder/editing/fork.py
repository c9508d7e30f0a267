"""A fork: a new run that has the first stages of another one and trains the later ones as an edited curriculum says.

The other run is only read. Its finished stages appear in the fork as second names of the same files, read-only, in
directories that no training is ever started in: see docs/editing.md.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stepladder import paths, shared_files
from stepladder.attempts.tasks import end_checkpoint, known_identity, new_identity
from stepladder.editing import edits, lineage, past
from stepladder.editing.lineage import Inherited, Lineage
from stepladder.errors import PlanError, Problem
from stepladder.paths import RunDirectory
from stepladder.planning.plan import Plan, PlannedStage
from stepladder.records.events import Event, last
from stepladder.records.facts import collect
from stepladder.records.journal import Journal
from stepladder.records.status import plan_of
from stepladder.verdicts import evidence_error
from stepladder.verify.stage import check_stage
from stepladder.verify.verdict import StageVerdict
from stepladder_worker import manifest
from stepladder_worker.contract import digest, write_sealed

#: What a copy of an evaluation is made of: both files are small, and a person may evaluate again.
_EVALUATION = "evaluation*"


def begin(parent: Plan, directory: RunDirectory, plan: Plan) -> None:
    """Make a directory, which this process holds, a fork of a run; nothing to do where it is one already.

    Args:
        parent: the plan of the curriculum as it is now, where the run that is forked lies.
        directory: of the fork.
        plan: of the same curriculum, where the fork lies.

    Raises PlanError when there is nothing to fork, or the fork's directory is in use, EvidenceError when the evidence
    of a stage that it would have does not hold.
    """
    run = RunDirectory(Path(parent.output_dir))
    if directory.identity.exists():
        _require_fork_of(run, parent.name, directory)
        return
    _require_unused(directory, plan)
    run_id = _identity(run, parent.name)
    recorded = plan_of(run)
    there = edits.compare(recorded, parent, past.standings(run, run_id, recorded))
    stages = recorded.stages[: there.agreeing]
    if not stages:
        raise _nothing_to_fork(run, recorded, there)
    verdicts = _checked(run, stages)
    journal = Journal(directory.journal)
    journal.append(Event.FORK_BEGUN, run=parent.name, directory=parent.output_dir)
    for stage, own in zip(stages, plan.stages, strict=False):
        _hand_on(run, recorded.name, stage, directory, own)
    origin = _lineage(run, run_id, recorded, stages, verdicts)
    _write_down(run, directory, plan, stages, origin, journal)
    _say(plan, recorded, edits.compare(recorded, parent, edits.at_boundary(recorded, len(stages))))


def _say(plan: Plan, recorded: Plan, edit: edits.Edit) -> None:
    """Where the fork begins, and what differs from what the other run trained, or was to train, from there on."""
    last = recorded.stages[edit.agreeing - 1]
    first = f"{plan.name} is a fork of {recorded.name} from the end of stage {last.name}, step {last.end_step}"
    past.say(edit, f"{first}; what is edited" if edit.differences else first)


def _identity(run: RunDirectory, name: str) -> str:
    if not run.identity.exists():
        text = "no run here (no run.json), so there is nothing to fork"
        raise PlanError([Problem(str(run.root), text, "run the curriculum first, or name the curriculum of a run")])
    return known_identity(run, name)


def _require_fork_of(run: RunDirectory, name: str, directory: RunDirectory) -> None:
    """The run that was forked may have been deleted since; then its name and place tell."""
    origin = lineage.read(directory)
    hint = "choose another name for the fork"
    if origin is None:
        raise PlanError([Problem(str(directory.root), f"is a run of its own and no fork of {name}", hint)])
    known = origin.run_id == known_identity(run) if run.identity.exists() else origin.directory == str(run.root)
    if not known:
        text = f"is a fork of {origin.name} ({origin.directory}), expected one of {name} ({run.root})"
        raise PlanError([Problem(str(directory.root), text, hint)])


def _require_unused(directory: RunDirectory, plan: Plan) -> None:
    """A fork that was cut short before it was one is made again; anything else in its place is not ours."""
    if any(event["event"] == Event.FORK_BEGUN for event in Journal(directory.journal).read()):
        return
    for folder in (directory.root, *(Path(stage.output_dir) for stage in plan.stages)):
        found = [path.name for path in sorted(folder.glob("*")) if path != directory.lock]
        if found:
            text = f"holds {found[0]}, and is no run, expected an empty place for the fork"
            raise PlanError([Problem(str(folder), text, "choose another name for the fork, or move that away")])


def _nothing_to_fork(run: RunDirectory, recorded: Plan, edit: edits.Edit) -> PlanError:
    first = recorded.stages[0].name
    why = next((problem.text for problem in edit.problems if problem.place == f"stage {first}"), "is not finished")
    hint = "a fork starts at the end of a finished stage that the edit leaves as it was; run it as a new curriculum"
    return PlanError([Problem(str(run.root), f"has no stage for a fork: stage {first} {why}", hint)])


def _checked(run: RunDirectory, stages: Sequence[PlannedStage]) -> list[StageVerdict]:
    """The verdicts on stages whose checkpoints are as they were written, each of their files read."""
    for stage in stages:
        found = manifest.problems(end_checkpoint(stage), compared=math.inf)
        if found:
            hint = "put it back as it was; `stepladder verify` shows what else is damaged"
            raise PlanError([Problem(str(end_checkpoint(stage)), f"is not whole: {'; '.join(found[:3])}", hint)])
    verdicts = [check_stage(facts) for facts in collect(run, stages, deep=False)]
    if not all(verdict.ok for verdict in verdicts):
        raise evidence_error(run, verdicts)
    return verdicts


def _hand_on(run: RunDirectory, name: str, stage: PlannedStage, directory: RunDirectory, own: PlannedStage) -> None:
    """The end checkpoint, the model, the log and what the evaluation said of a stage, in the fork's directories."""
    log = paths.stage_log(stage.output_dir, stage.name)
    source, end = Path(stage.output_dir), end_checkpoint(stage)
    # The manifest last: without it, a checkpoint of a fork that was cut short counts as none.
    for path in sorted(source.rglob("*"), key=lambda path: (path.name == manifest.NAME, path)):
        top = source / path.relative_to(source).parts[0]
        other = top.name.startswith("checkpoint-") and top != end
        if path.is_file() and not path.is_symlink() and not other and path != log and not path.name.endswith(".tmp"):
            shared_files.hand_on(path, Path(own.output_dir) / path.relative_to(source))
    _hand_on_log(log, paths.stage_log(own.output_dir, own.name), f"stage {stage.name}, inherited from run {name}")
    evaluated, place = run.attempts(stage.index, stage.name), directory.attempts(own.index, own.name)
    for path in sorted(evaluated.glob(_EVALUATION)):
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place / path.name)


def _hand_on_log(log: Path, own: Path, title: str) -> None:
    """A copy, since logs are appended to; its first line says whose it is."""
    own.parent.mkdir(parents=True, exist_ok=True)
    with own.open("wb") as file:
        file.write(f"=== stepladder: {title} ===\n".encode())
        if log.is_file():
            with log.open("rb") as old:
                shutil.copyfileobj(old, file)


def _lineage(
    run: RunDirectory, run_id: str, recorded: Plan, stages: Sequence[PlannedStage], verdicts: Sequence[StageVerdict]
) -> Lineage:
    entries = []
    for stage, verdict in zip(stages, verdicts, strict=True):
        sealed = digest(end_checkpoint(stage) / manifest.NAME)
        own = Inherited(stage.name, stage.index, run_id, recorded.name, str(run.root), sealed, verdict.to_dict())
        # Of a fork of a fork: who trained it says more than who handed it on.
        entries.append(lineage.inherited(run, stage.name) or own)
    return Lineage(run_id, recorded.name, str(run.root), str(end_checkpoint(stages[-1])), tuple(entries))


def _write_down(
    run: RunDirectory,
    directory: RunDirectory,
    plan: Plan,
    stages: Sequence[PlannedStage],
    origin: Lineage,
    journal: Journal,
) -> None:
    """The plan, with the curves that the inherited stages were trained with; the journal; the identity last."""
    own = tuple(edits.kept(stage, planned) for stage, planned in zip(stages, plan.stages, strict=False))
    write_sealed(directory.plan, replace(plan, stages=(*own, *plan.stages[len(own) :])).to_json())
    journal.append(Event.FORKED, **origin.to_dict())
    events = Journal(run.journal).read()
    for stage in stages:
        selected = last(events, stage.name, Event.SELECTED)
        if selected:
            journal.append(Event.SELECTED, **_facts(selected))
    new_identity(directory, plan.name, origin)


def _facts(event: dict[str, Any]) -> dict[str, Any]:
    """What was recorded with an event, without what the journal adds to each."""
    return {key: event[key] for key in ("stage", "mixture", "fingerprint", "samples", "left_out") if key in event}
