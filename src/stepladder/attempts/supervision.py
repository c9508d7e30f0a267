"""Looks after one attempt while it trains: requests to stop, its time limit, hangs, progress."""

from __future__ import annotations

import time
from pathlib import Path

from stepladder import console
from stepladder.attempts.hangs import HangWatch
from stepladder.launch import stacks
from stepladder.launch.stopping import StopRequest
from stepladder.paths import AttemptDirectory
from stepladder.planning.plan import PlannedStage
from stepladder.records import log_file
from stepladder.report.progress import Progress
from stepladder_worker.contract import ContractError, Heartbeat, read, write_json

#: Seconds that a training asked to stop has for its checkpoint, before it is ended.
STOP_GRACE_SECONDS = 600.0


class Supervisor:
    """Called a few times a second while the processes of an attempt run; says when they are to be ended.

    Attributes:
        hung: what hung, when the training was ended for that.
        cut_short: it was asked to stop and ended without having been given the time for a checkpoint.
    """

    def __init__(
        self,
        stage: PlannedStage,
        files: AttemptDirectory,
        log: Path,
        request: StopRequest,
        progress: Progress,
        saves_when_stopped: bool,
    ) -> None:
        self._stage, self._files, self._log, self._request, self._progress = stage, files, log, request, progress
        # Without the hooks nobody in the training hears of a request.
        self._saves = saves_when_stopped and stage.hook
        self._watch = HangWatch(stage.hang, files.heartbeat, stage.batch.processes, log)
        self._started = time.monotonic()
        self._asked_at: float | None = None
        self.hung: str | None = None
        self.cut_short = False

    def __call__(self) -> bool:
        """Whether the processes are to be ended at once."""
        self._progress.tick()
        limit = self._stage.time_limit
        if limit is not None and time.monotonic() - self._started > limit:
            self._request.preempt(f"the time limit of {limit:g} s")
        self.cut_short = self.cut_short or (self._request.made and self._stops())
        return self.cut_short or self._hangs()

    def _stops(self) -> bool:
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            if not self._asks_for_a_checkpoint():
                return True
        return self._request.urgent or time.monotonic() - self._asked_at > STOP_GRACE_SECONDS

    def _asks_for_a_checkpoint(self) -> bool:
        """Ask all ranks for a checkpoint; False while there is nothing to save, or nobody who would hear it."""
        try:
            beat = read(Heartbeat, self._files.heartbeat)
        except ContractError:
            return False
        if beat.phase == "starting" or not self._saves:
            return False
        console.note("stopping: the training writes a checkpoint first; Ctrl-C again ends it at once")
        write_json(self._files.control, {"stop": True})
        return True

    def _hangs(self) -> bool:
        hung = self._watch.hung()
        if hung is None:
            return False
        self.hung = hung
        console.warn(
            f"stage {self._stage.name} hangs: {hung}; it is ended, the stacks of its processes are in {self._log}"
        )
        with log_file.opened(self._log) as output:
            output.write(f"{log_file.HEADING}it hangs: {hung} ===\n".encode())
            stacks.write(self._watch.processes(), self._log, output)
        return True
