"""Collects, for every stage, what was recorded and what lies on disk; `verify/` decides from it.

Files of checkpoints are read in the stage's own interpreter (`worker.pyz --inspect`), because the control side never
imports torch. Without `deep`, only manifests, sizes and `trainer_state.json` are read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stepladder import paths
from stepladder.attempts.tasks import Attempt, end_checkpoint, known_identity, stage_state
from stepladder.curriculum.spec import BUILT_IN
from stepladder.editing import edit_history
from stepladder.editing.lineage import Inherited
from stepladder.errors import RunError
from stepladder.launch.ask import ask_worker
from stepladder.launch.pack import pack_worker
from stepladder.paths import RunDirectory
from stepladder.planning.plan import PlannedStage
from stepladder.records.events import Event, current_events, sealed_results, since_set_aside, steps_down
from stepladder.records.journal import Journal
from stepladder_worker import manifest
from stepladder_worker.contract import ContractError, StageResult, StageTask, digest, read, read_json
from stepladder_worker.manifest import Manifest


@dataclass(frozen=True)
class OnDisk:
    """A checkpoint as read from its files. Without `deep`, tensors were not read."""

    problems: list[str]
    global_step: int | None
    deep: bool = False
    weights: dict[str, str] = field(default_factory=dict)
    non_finite: list[str] = field(default_factory=list)
    optimizer: list[dict[str, Any]] | None = None
    rng: list[dict[str, str]] = field(default_factory=list)
    parked: dict[str, dict[str, Any]] = field(default_factory=dict)
    schedule: dict[str, int] | None = None


@dataclass(frozen=True)
class PlannedOrder:
    """The order of a stage's mixture, where the built-in trainer follows it.

    Attributes:
        length: samples of an epoch.
        index_at: index of the sample at a position, which counts from 0 over all epochs.
        problem: why it cannot be what was trained; None when it can.
        unknown: why it is not known now; None when it is.
    """

    length: int
    index_at: Callable[[int], int]
    problem: str | None = None
    unknown: str | None = None


@dataclass(frozen=True)
class Segment:
    """An attempt whose steps are part of the stage: from global step `start` on.

    Attributes:
        attempt: its files.
        result: what it recorded.
        start: the global step it started from.
        task: what it was given, as its worker read it: `evidence` holds the file to the digest in the result. None
            where the file cannot be read.
        stage: the plan as it was launched: on the rung that its task names (at the top where the plan has none such),
            with the learning-rate curve that the journal's edits leave to it.
    """

    attempt: Attempt
    result: StageResult
    start: int
    task: StageTask | None
    stage: PlannedStage

    @property
    def evidence(self) -> dict[str, Any]:
        return self.result.evidence


@dataclass(frozen=True)
class StageFacts:
    """Everything that `verify` decides a stage from.

    Attributes:
        run_id: id of the run that trained the stage.
        stage: the plan.
        attempts: every launch.
        segments: the attempts that the stage's last checkpoint came from, in order; empty when it is not finished.
        segment_ends: global step at which each segment hands over to the next (or ends).
        states_before: the saved state that each segment had to start from; None for a stage from scratch.
        boundary_name: the checkpoint that the stage started from, for messages.
        sealed: attempt number -> digest of its result when it ended, from the journal.
        started: attempts whose start is in the journal, and the rung that it was launched on: an engine that starts
            one also seals it.
        given: attempts that the journal says were given to a person to start.
        steps_down: the journal's events of rungs taken down the out-of-memory ladder.
        journal_break: line of the journal that does not follow the line before it, None in an unbroken one.
        manifest: of the stage's last checkpoint, None without one.
        on_disk: that checkpoint as read, None without one.
        planned_order: of the stage's `data:`; None where the script orders its samples.
        inherited: where the stage comes from, by the run's lineage; None for one that this run trained itself.
        inherited_by_journal: the same as the journal has it.
        manifest_digest: SHA-256 of the manifest, None without one.
    """

    run_id: str
    stage: PlannedStage
    attempts: list[Attempt]
    segments: list[Segment]
    segment_ends: list[int]
    states_before: list[dict[str, Any] | None]
    boundary_name: str
    sealed: dict[int, str]
    started: dict[int, int]
    given: frozenset[int]
    steps_down: list[dict[str, Any]]
    journal_break: int | None
    manifest: Manifest | None
    on_disk: OnDisk | None
    planned_order: PlannedOrder | None = None
    inherited: Inherited | None = None
    inherited_by_journal: dict[str, Any] | None = None
    manifest_digest: str | None = None

    @property
    def foreign_optimizer(self) -> bool:
        """The optimizer lies in files that only its engine can read (DeepSpeed, FSDP)."""
        files = self.manifest.files if self.manifest is not None else {}
        return any(name.startswith(("global_step", "optimizer_")) for name in files)


def collect(run: RunDirectory, stages: Sequence[PlannedStage], deep: bool) -> list[StageFacts]:
    """Facts of stages. Raises PlanError when there is no run, RunError when its interpreter
    cannot read."""
    run_id = known_identity(run)
    events = Journal(run.journal).read()
    inspected = _inspect(run, stages) if deep else {}
    return [_facts(run, run_id, stage, events, inspected) for stage in stages]


def _facts(
    run: RunDirectory, run_id: str, stage: PlannedStage, events: list[dict[str, Any]], inspected: dict[str, Any]
) -> StageFacts:
    state = stage_state(run, run_id, stage)
    inherited, events = state.inherited, since_set_aside(events, stage.name)
    segments = _segments(state.attempts, stage, events) if inherited is None else []
    end = end_checkpoint(stage)
    return StageFacts(
        run_id=run_id if inherited is None else inherited.run_id,
        stage=stage,
        attempts=state.attempts,
        segments=segments,
        segment_ends=[segment.start for segment in segments[1:]] + [stage.end_step][: len(segments)],
        states_before=_states_before(stage, segments),
        boundary_name=Path(stage.resume_from).name if stage.resume_from else "the base model",
        sealed=sealed_results(events, stage.name),
        started={
            event["attempt"]: event.get("rung", 0)
            for event in current_events(events, stage.name)
            if event["event"] == Event.ATTEMPT_STARTED
        },
        given=frozenset(
            event["attempt"] for event in current_events(events, stage.name) if event["event"] == Event.ATTEMPT_GIVEN
        ),
        steps_down=steps_down(events, stage.name),
        journal_break=next((event["line"] for event in events if not event["follows"]), None),
        manifest=manifest.find(end),
        on_disk=_on_disk(end, inspected.get(str(end))),
        planned_order=_planned_order(run, stage),
        inherited=inherited,
        inherited_by_journal=_forked(events, stage.name),
        manifest_digest=digest(end / manifest.NAME) if (end / manifest.NAME).is_file() else None,
    )


def _forked(events: list[dict[str, Any]], stage: str) -> dict[str, Any] | None:
    """What the journal says of where a stage comes from; None for one that the run trains itself."""
    entries = [
        entry
        for event in events
        if event["event"] == Event.FORKED and isinstance(event.get("stages"), list)
        for entry in event["stages"]
        if isinstance(entry, dict) and entry.get("stage") == stage
    ]
    return entries[-1] if entries else None


def _planned_order(run: RunDirectory, stage: PlannedStage) -> PlannedOrder | None:
    if stage.mixture is None or stage.script != BUILT_IN:
        return None
    from stepladder.data.lengths import trained_order, window_of  # numpy and pyarrow, which only such stages need
    from stepladder.data.records import is_whole
    from stepladder.data.samples import DataError
    from stepladder.data.selection import read_selection

    window = window_of(stage.args)
    try:
        selection = read_selection(run.data(stage.index, stage.name).selection, stores=False)
    except DataError as error:
        return PlannedOrder(0, int, error.text)
    if selection.key != stage.mixture.key:
        return PlannedOrder(0, int, f"{selection.path} holds another mixture than the plan's {stage.mixture.name}")
    if window and not all(is_whole(part.store_path) for part in selection.parts):
        # The lengths that the windows go by are in the stores.
        return PlannedOrder(0, int, unknown="the cache was emptied, so the order was not compared")
    entry_at = trained_order(selection, window)
    return PlannedOrder(selection.length, lambda position: selection.index_of(*entry_at(position)))


def _segments(attempts: list[Attempt], stage: PlannedStage, events: list[dict[str, Any]]) -> list[Segment]:
    """Walk back from the attempt that reached the end to the one that started the stage."""
    usable = [
        _segment(attempt, attempt.result, start, _with_its_curve(stage, attempt.number, events))
        for attempt in attempts
        if attempt.result is not None and (start := _start_of(attempt.result)) is not None
    ]
    complete = [segment for segment in usable if segment.result.status == "complete"]
    if not complete:
        return []
    chain = [complete[-1]]
    while chain[0].start > stage.start_step:
        earlier = [
            segment
            for segment in usable
            if segment.attempt.number < chain[0].attempt.number and segment.start < chain[0].start
        ]
        if not earlier:
            break
        chain.insert(0, earlier[-1])
    return chain


def _with_its_curve(stage: PlannedStage, attempt: int, events: list[dict[str, Any]]) -> PlannedStage:
    """The stage as it was planned when an attempt started: accepted edits may have changed its curve since."""
    return replace(stage, curve=edit_history.curve_of(events, stage.name, attempt, stage.curve))


def _segment(attempt: Attempt, result: StageResult, start: int, stage: PlannedStage) -> Segment:
    try:
        task = read(StageTask, attempt.files.task)
    except ContractError:
        return Segment(attempt, result, start, None, stage)
    known = 0 <= task.rung <= len(stage.rungs)
    return Segment(attempt, result, start, task, stage.on_rung(task.rung) if known else stage)


def _start_of(result: StageResult) -> int | None:
    start = result.evidence.get("start")
    step = start.get("global_step") if isinstance(start, dict) else None
    return step if isinstance(step, int) else None


def _states_before(stage: PlannedStage, segments: list[Segment]) -> list[dict[str, Any] | None]:
    boundary = manifest.find(Path(stage.resume_from)) if stage.resume_from else None
    states: list[dict[str, Any] | None] = []
    for index, segment in enumerate(segments):
        if index == 0:
            missing: dict[str, Any] = {"weights": {}, "moments": {}, "counters": {}, "rng": [{}]}
            states.append(boundary.state if boundary else missing if stage.resume_from else None)
            continue
        before = segments[index - 1].evidence.get("end")
        resumed = manifest.find(paths.checkpoint(stage.output_dir, segment.start)) or _copied_manifest(segment)
        # The record before may tell of a later save that was cut short.
        states.append(before if resumed is None else resumed.state)
    return states


def _copied_manifest(segment: Segment) -> Manifest | None:
    """Of the checkpoint that an attempt resumed, where `save_total_limit` has removed it since."""
    try:
        copied = manifest.read_file(segment.attempt.files.resumed)
    except ContractError:
        return None
    resumed = (segment.result.run_id, segment.result.stage, segment.start)
    return copied if (copied.run_id, copied.stage, copied.global_step) == resumed else None


def _on_disk(checkpoint: Path, inspected: dict[str, Any] | None) -> OnDisk | None:
    if not checkpoint.is_dir():
        return None
    if inspected is None:
        try:
            step = read_json(checkpoint / "trainer_state.json").get("global_step")
        except ContractError:
            step = None
        return OnDisk(manifest.problems(checkpoint), step)
    return OnDisk(
        problems=inspected["problems"] + inspected["errors"],
        global_step=inspected["global_step"],
        deep=True,
        weights=inspected["weights"],
        non_finite=inspected["non_finite"],
        optimizer=inspected["optimizer"],
        rng=inspected["rng"],
        parked=inspected["parked"],
        schedule=inspected["schedule"],
    )


def _inspect(run: RunDirectory, stages: Sequence[PlannedStage]) -> dict[str, Any]:
    """Let each interpreter of the run read its stages' last checkpoints: one process an interpreter."""
    if not run.worker.is_file():
        pack_worker(run.worker)
    found: dict[str, Any] = {}
    existing = [stage for stage in stages if end_checkpoint(stage).is_dir()]
    for python in dict.fromkeys(stage.python for stage in existing):
        checkpoints = [str(end_checkpoint(stage)) for stage in existing if stage.python == python]
        env = next(stage.env for stage in existing if stage.python == python)
        said, trouble = ask_worker(python, run.worker, env, "--inspect", *checkpoints)
        if trouble is not None:
            raise RunError(
                f"{python} could not read the checkpoints: {trouble}", hint="check the interpreter of the stage"
            )
        found.update(json.loads(said.splitlines()[-1])["checkpoints"])
    return found
