"""The heartbeat of one process: where it is and how long its steps take, so that the control side sees a hang.

Nothing beats by itself: a file is rewritten when a step, a part of an evaluation or a checkpoint is done, so its age
is the time without progress. Standard library only: it beats before the script has imported anything.
"""

from __future__ import annotations

import os
import time

from stepladder_worker.contract import Heartbeat, StageTask, heartbeat_path, write_json

#: Shortest time between two heartbeats of one phase, in seconds.
BEAT_SECONDS = 1.0


class Pulse:
    """Writes the heartbeats of this process. `phase` is one of contract.PHASES."""

    def __init__(self, task: StageTask, rank: int, step: int) -> None:
        self._path, self._rank, self._end = heartbeat_path(task.heartbeat_path, rank), rank, task.end_step
        self.phase, self.step = "starting", step
        self._loss: float | None = None
        self._mean: float | None = None
        self._longest: float | None = None
        self._steps = 0
        self._beaten_at = self._since = 0.0
        self._beaten_step = step

    @property
    def step_seconds(self) -> float | None:
        """How long a step takes, about; None before the first one."""
        return self._longest if self._mean is None else self._mean

    def enter(self, phase: str, step: int | None = None, loss: float | None = None) -> None:
        """Another phase begins; it is written down at once. What is not given is as before."""
        self.phase, self.step = phase, self.step if step is None else step
        self._since = time.monotonic()
        self._beaten_step = self.step
        self._loss = self._loss if loss is None else loss
        self._write()

    def step_done(self, step: int) -> bool:
        """One optimizer step is done. Returns whether a heartbeat is due, which `beat` writes.

        After the second one it always is: the limit of a step counts from then on.
        """
        now = time.monotonic()
        self._steps += 1
        # The first step compiles and allocates: it tells nothing of the others.
        seen = self._longest if self._steps > 2 else None
        self._longest = max(seen or 0.0, now - self._since)
        self._since, self.step = now, step
        return self._steps == 2 or now - self._beaten_at >= BEAT_SECONDS

    def beat(self, loss: float | None) -> None:
        """Write a heartbeat of this phase, with the mean duration of the steps since the last one."""
        steps = self.step - self._beaten_step
        if steps > 0:
            self._mean = (time.monotonic() - self._beaten_at) / steps
        self._beaten_step, self._loss = self.step, loss
        self._write()

    def evaluating(self) -> None:
        """One batch of an evaluation is done."""
        if self.phase != "evaluating":
            self.enter("evaluating")
        elif time.monotonic() - self._beaten_at >= BEAT_SECONDS:
            self._write()

    def _write(self) -> None:
        self._beaten_at = time.monotonic()
        seconds = self._mean, self._longest if self._steps > 1 else None
        beat = Heartbeat(os.getpid(), self._rank, self.step, self._end, self._loss, *seconds, time.time(), self.phase)
        write_json(self._path, beat.to_dict(), durable=False)
