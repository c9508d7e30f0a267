"""From a planned stage to the task of one attempt, and back to where the stage stands on disk."""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepladder import paths
from stepladder.attempts.hangs import process_of
from stepladder.editing import lineage
from stepladder.editing.lineage import Inherited, Lineage
from stepladder.errors import PlanError, Problem
from stepladder.paths import AttemptDirectory, RunDirectory
from stepladder.planning.plan import Plan, PlannedStage
from stepladder_worker import manifest
from stepladder_worker.contract import (
    ERRORS_OF_RANKS,
    ContractError,
    Heartbeat,
    StageResult,
    StageTask,
    digest,
    read,
    read_error,
    read_sealed,
    write_json,
    write_sealed,
)

IDENTITY_VERSION = 1


@dataclass(frozen=True)
class Attempt:
    """One launch of a stage, as its files tell.

    Attributes:
        number: from 1.
        files: where its files are.
        result: what it recorded; None when it left nothing readable.
    """

    number: int
    files: AttemptDirectory
    result: StageResult | None

    @property
    def result_digest(self) -> str | None:
        """SHA-256 of the result file; None without one."""
        return digest(self.files.result) if self.files.result.is_file() else None

    @property
    def task_digest(self) -> str | None:
        """SHA-256 of the task file; None without one."""
        return digest(self.files.task) if self.files.task.is_file() else None

    @property
    def error(self) -> dict[str, Any] | None:
        """What ended the script first, on whichever rank; the others then fail with their connection to it."""
        found: list[tuple[float, dict[str, Any]]] = []
        if self.result is not None and self.result.error is not None:
            found.append((self.files.result.stat().st_mtime, self.result.error))
        for path in self.files.root.glob(ERRORS_OF_RANKS):
            with contextlib.suppress(ContractError, OSError):
                found.append((path.stat().st_mtime, read_error(path)))
        return min(found, key=lambda item: item[0])[1] if found else None

    @property
    def started(self) -> bool:
        """Whether a worker took this attempt up."""
        return self.files.result.is_file() or self.files.heartbeat.is_file()

    @property
    def heartbeat(self) -> Heartbeat | None:
        """The last one of rank 0, None before the first."""
        try:
            return read(Heartbeat, self.files.heartbeat)
        except ContractError:
            return None

    @property
    def alive(self) -> bool:
        """Whether the process that wrote the heartbeat lives; one started by hand has no engine to ask."""
        return self.heartbeat is not None and process_of(self.heartbeat, self.files.task) is not None


@dataclass(frozen=True)
class StageState:
    """Where a stage stands on disk.

    Attributes:
        attempts: every launch so far, in order.
        end: the complete checkpoint at the stage's end, or None.
        latest: the newest complete checkpoint of the stage, or None.
        inherited: where a stage comes from that this run did not train; None for its own.
    """

    attempts: list[Attempt]
    end: Path | None
    latest: Path | None
    inherited: Inherited | None = None

    @property
    def done(self) -> bool:
        """The end checkpoint is complete, and an attempt recorded how it came about, or it is another run's."""
        return self.end is not None and (self.finishing is not None or self.inherited is not None)

    @property
    def finishing(self) -> Attempt | None:
        """The attempt that reached the end."""
        complete = [a for a in self.attempts if a.result is not None and a.result.status == "complete"]
        return complete[-1] if complete else None


def run_identity(run: RunDirectory, plan: Plan) -> str:
    """The run's id; a new run gets one. Raises PlanError when the directory belongs to another curriculum."""
    if run.identity.exists():
        return known_identity(run, plan.name)
    return new_identity(run, plan.name)


def new_identity(run: RunDirectory, name: str, forked: Lineage | None = None) -> str:
    """Make a directory that of a new run, whose id is returned; `forked` says from where it has its first stages."""
    run_id = uuid.uuid4().hex
    from_where = {} if forked is None else {"lineage": forked.to_dict()}
    write_sealed(run.identity, {"version": IDENTITY_VERSION, "run_id": run_id, "name": name, **from_where})
    return run_id


def known_identity(run: RunDirectory, name: str | None = None) -> str:
    """The id of an existing run. Raises PlanError when there is none, or one of another name."""
    try:
        data = read_sealed(run.identity)
        run_id, found = str(data["run_id"]), data["name"]
    except (ContractError, KeyError) as error:
        text, hint = "not a run directory (no run.json)", "start it with `stepladder run FILE`"
        if run.identity.exists():
            text = f"its run.json cannot be read: {error}"
            hint = "put it back as it was, or set the run aside with `--fresh` and start anew"
        raise PlanError([Problem(str(run.root), text, hint)]) from None
    if name is not None and found != name:
        hint = "give this curriculum another output_dir, or start anew with --fresh"
        text = f"it belongs to the run {found!r}, this curriculum is {name!r}"
        raise PlanError([Problem(str(run.root), text, hint)])
    return run_id


def stage_state(run: RunDirectory, run_id: str, stage: PlannedStage) -> StageState:
    """Read where a stage stands. Nothing but files decides it, so a stage run by hand counts as well."""
    folder, inherited = Path(stage.output_dir), lineage.inherited(run, stage.name)
    owner = run_id if inherited is None else inherited.run_id
    end = manifest.latest(folder, owner, stage.name, stage.end_step, stage.end_step)
    latest = end or manifest.latest(folder, owner, stage.name, stage.start_step + 1, stage.end_step)
    return StageState(_attempts(run, stage), end, latest, inherited)


def _attempts(run: RunDirectory, stage: PlannedStage) -> list[Attempt]:
    root = run.attempts(stage.index, stage.name)
    numbers = sorted(int(path.name) for path in root.glob("*") if path.name.isdigit()) if root.is_dir() else []
    return [_attempt(number, run.attempt(stage.index, stage.name, number)) for number in numbers]


def _attempt(number: int, files: AttemptDirectory) -> Attempt:
    try:
        result = read(StageResult, files.result)
    except ContractError:
        result = None
    return Attempt(number, files, result)


def write_task(run: RunDirectory, run_id: str, stage: PlannedStage) -> AttemptDirectory:
    """Write the task of the stage's next attempt. An attempt that never started is used again."""
    attempts = _attempts(run, stage)
    number = attempts[-1].number + attempts[-1].started if attempts else 1
    files = run.attempt(stage.index, stage.name, number)
    files.control.unlink(missing_ok=True)
    boundary_run_id = lineage.owner(run, run_id, stage.index - 1)
    write_json(files.task, _task(run_id, boundary_run_id, stage, number, files).to_dict())
    return files


def _task(run_id: str, boundary_run_id: str, stage: PlannedStage, number: int, files: AttemptDirectory) -> StageTask:
    return StageTask(
        run_id=run_id,
        stage=stage.name,
        index=stage.index,
        attempt=number,
        rung=stage.rung,
        hook=stage.hook,
        start_step=stage.start_step,
        end_step=stage.end_step,
        data_start_step=stage.data_start_step,
        output_dir=_absolute(stage.output_dir),
        boundary_checkpoint=None if stage.resume_from is None else _absolute(stage.resume_from),
        boundary_run_id=None if stage.resume_from is None else boundary_run_id,
        handover=stage.handover,
        curve=stage.curve,
        in_force=dict(stage.in_force),
        engine=stage.engine,
        trainable=None if stage.trainable is None else list(stage.trainable),
        new_objective=stage.new_objective,
        result_path=_absolute(files.result),
        heartbeat_path=_absolute(files.heartbeat),
        control_path=_absolute(files.control),
    )


def end_checkpoint(stage: PlannedStage) -> Path:
    """The checkpoint at the stage's end, whether it exists or not."""
    return paths.checkpoint(stage.output_dir, stage.end_step)


def _absolute(path: str | Path) -> str:
    return str(Path(path).resolve())
