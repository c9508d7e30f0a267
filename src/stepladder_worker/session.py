"""The one stage that this process trains: its task, where it resumes, what it has recorded so far.

A process trains one stage, so there is one Session; the hooks reach it through `current()`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from stepladder_worker import manifest, proven
from stepladder_worker.contract import RESUMED, StageTask
from stepladder_worker.evidence import Evidence
from stepladder_worker.pulse import Pulse

_current: Session | None = None


class BoundaryError(RuntimeError):
    """The training cannot keep, or did not keep, what the boundary owes; the message says what and a `hint:`."""


class StageStopped(SystemExit):
    """Ends the script after a requested stop: the checkpoint is written, the script must not go on to export."""


class Session:
    """State of the stage in this process.

    Attributes:
        task: what to do.
        evidence: what was recorded.
        checkpoint: what training resumes from: the newest complete checkpoint of this stage, else the boundary
            checkpoint, else None. Unused with `hook: false`.
        loaded: the manifest of `checkpoint`.
        trainer: the Trainer whose `train()` runs the stage; None before.
        true_step: global step of the loaded checkpoint, while the loop is shown its data position instead.
        ending: training ends after this step, with a checkpoint.
        stopping: it ends because a stop was asked for, before the stage's end.
        epoch_over: the loop has left its last epoch.
        saved_steps: global steps whose checkpoint this process has completed.
        pulse: the heartbeat of this process.
        parked: optimizer state of parameters that the stage does not train, by name; complete on rank 0.
    """

    def __init__(self, task: StageTask, task_digest: str) -> None:
        """Raises BoundaryError when the checkpoint to resume from cannot be used."""
        self.task = task
        self.rank = int(os.environ.get("RANK", "0"))
        self.world_size = int(os.environ.get("WORLD_SIZE", "1"))
        self.evidence = Evidence(task, task_digest, self.rank)
        self.evidence.world_size = self.world_size
        self.trainer: Any = None
        self.ending = self.stopping = self.epoch_over = False
        self.saved_steps: set[int] = set()
        self.parked: dict[str, dict[str, Any]] = {}
        self.checkpoint = self._resume_point() if task.hook else None
        self.loaded = None if self.checkpoint is None else self._checked_manifest(self.checkpoint)
        if self.checkpoint is not None and not self.at_boundary and self.rank == 0:
            manifest.copy(self.checkpoint, Path(task.result_path).with_name(RESUMED))
        if not task.hook and task.boundary_checkpoint is not None:
            held = manifest.find(Path(task.boundary_checkpoint))  # the script loads it by itself, complete or not
            if held is not None:
                self._require_proven(Path(task.boundary_checkpoint), held)
        self.true_step = task.start_step if self.loaded is None else self.loaded.global_step
        self.pulse = Pulse(task, self.rank, self.true_step)

    @property
    def at_boundary(self) -> bool:
        """Whether training starts where the stage starts, not in its middle after a crash."""
        return self.loaded is None or self.loaded.stage != self.task.stage

    @property
    def resets_optimizer(self) -> bool:
        return self.at_boundary and self.task.handover.optimizer == "reset"

    @property
    def resets_rng(self) -> bool:
        return self.at_boundary and self.task.handover.rng == "reset"

    @property
    def finished(self) -> bool:
        """Whether the checkpoint at the stage's end is complete."""
        return self.task.end_step in self.saved_steps or self.true_step >= self.task.end_step

    def begin(self, trainer: Any) -> None:
        """The script called `train()`. A second call would train past the stage's end, so it is refused."""
        if self.trainer is not None:
            raise BoundaryError(
                f"stage {self.task.stage}: the script called train() a second time, one call is a stage; "
                "hint: make each training of the script a stage of the curriculum"
            )
        self.trainer = trainer

    def _resume_point(self) -> Path | None:
        task = self.task
        own = manifest.latest(Path(task.output_dir), task.run_id, task.stage, task.start_step + 1, task.end_step)
        return own or (None if task.boundary_checkpoint is None else Path(task.boundary_checkpoint))

    def _checked_manifest(self, checkpoint: Path) -> manifest.Manifest:
        task = self.task
        where = f"stage {task.stage}: checkpoint {checkpoint}"
        found = manifest.problems(checkpoint, compared=manifest.SMALL)
        if found:
            raise BoundaryError(f"{where} is not complete: {'; '.join(found[:3])}; hint: run the stage before it again")
        loaded = manifest.read(checkpoint)
        at_boundary = str(checkpoint) == task.boundary_checkpoint
        if loaded.run_id != (task.boundary_run_id if at_boundary else task.run_id):
            raise BoundaryError(f"{where} belongs to another run; hint: start from a checkpoint of this run")
        if loaded.stage != task.stage and loaded.global_step != task.start_step:
            raise BoundaryError(
                f"{where} is at global step {loaded.global_step}, the stage starts at {task.start_step}; "
                "hint: run the stage before it again"
            )
        self._require_proven(checkpoint, loaded)
        return loaded

    def _require_proven(self, checkpoint: Path, held: manifest.Manifest) -> None:
        """Nothing is unpickled freely but what this run wrote."""
        if proven.needs_proof(self.task.engine):
            found = proven.unproven(checkpoint, held, self.rank, self.world_size)
            if found:
                raise BoundaryError(
                    f"stage {self.task.stage}: {checkpoint / found[0]} is not what this run wrote (checksum), and "
                    "loading it could run what it says; hint: put it back as it was, or train its stage again"
                )


def start(task: StageTask, task_digest: str) -> Session:
    """Make the process's Session."""
    global _current
    _current = Session(task, task_digest)
    return _current


def current() -> Session:
    """The process's Session."""
    if _current is None:
        raise RuntimeError("no stage has been started in this process")
    return _current
