"""Whether a training hangs: a heartbeat that does not change for longer than what its process is doing may take."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from stepladder.paths import AttemptDirectory
from stepladder.planning.plan import HangPlan
from stepladder_worker.contract import TASK_VARIABLE, ContractError, Heartbeat, heartbeat_path, read

#: A step may take this many times the longest one so far.
LONGEST_TIMES = 20
#: Seconds between two looks.
LOOK_SECONDS = 1.0
#: A look that comes so many seconds late finds nothing late: this process, and so perhaps all, was held up.
HELD_UP_SECONDS = 10.0


@dataclass
class _Pulse:
    """What is known of a rank: its last heartbeat, and when (time.monotonic) it last got on."""

    beat: Heartbeat | None
    since: float


class HangWatch:
    """Looks at the heartbeats of one attempt. `limits` None: never says that it hangs."""

    def __init__(self, limits: HangPlan | None, heartbeat: Path, ranks: int, log: Path) -> None:
        now = time.monotonic()
        self._limits, self._log, self._log_size = limits, log, -1
        self._paths = {rank: heartbeat_path(heartbeat, rank) for rank in range(ranks)}
        self._task = AttemptDirectory(heartbeat.parent).task
        self._pulses = {rank: _Pulse(None, now) for rank in self._paths}
        self._looked = now

    def hung(self) -> str | None:
        """What hangs, in one sentence; None while everything gets on."""
        now = time.monotonic()
        if self._limits is None or now - self._looked < LOOK_SECONDS:
            return None
        if now - self._looked > HELD_UP_SECONDS:
            for pulse in self._pulses.values():
                pulse.since += now - self._looked
        self._looked = now
        self._read(now)
        late = {
            rank: now - pulse.since for rank, pulse in self._pulses.items() if now - pulse.since > self._limit(pulse)
        }
        return self._sentence(late) if late else None

    def processes(self) -> dict[int, psutil.Process]:
        """The ranks that wrote a heartbeat and live."""
        found = {}
        for rank, pulse in self._pulses.items():
            process = None if pulse.beat is None else process_of(pulse.beat, self._task)
            if process is not None:
                found[rank] = process
        return found

    def _read(self, now: float) -> None:
        size = self._log.stat().st_size if self._log.exists() else 0
        log_grew, self._log_size = size != self._log_size, size
        for rank, pulse in self._pulses.items():
            beat = _newest(self._paths[rank]) or pulse.beat
            # Before the first step and after the last one a script does what it likes: a line in the log is progress.
            if beat != pulse.beat or (log_grew and _by_log(beat)):
                self._pulses[rank] = _Pulse(beat, now)

    def _limit(self, pulse: _Pulse) -> float:
        limits, beat = self._limits, pulse.beat
        if limits is None:
            return float("inf")
        if beat is None or beat.phase == "starting":
            return limits.start
        if beat.phase == "saving":
            return limits.save
        if beat.phase == "evaluating":
            return limits.evaluate
        if beat.phase == "ending":
            return max(limits.save, limits.evaluate)
        return limits.start if beat.longest_seconds is None else max(limits.step, LONGEST_TIMES * beat.longest_seconds)

    def _sentence(self, late: dict[int, float]) -> str:
        rank = max(late, key=lambda rank: late[rank])
        limit = self._limit(self._pulses[rank])
        stopped = [f"rank {r} is stopped by a signal" for r, p in self.processes().items() if _is_stopped(p)]
        where = [f"rank {r} {_where(pulse.beat)}" for r, pulse in self._pulses.items()]
        return f"no progress for {late[rank]:.0f} s (limit {limit:.0f} s): " + ", ".join(stopped or where)


def process_of(beat: Heartbeat, task: Path) -> psutil.Process | None:
    """The living process that wrote a heartbeat of the attempt that was given `task`.

    A process id is used again: a younger process did not write it, nor did one that works on something else, which may
    be older where the clock was set or the heartbeat is of another machine.
    """
    try:
        process = psutil.Process(beat.pid)
        alive = process.create_time() <= beat.time and process.status() != psutil.STATUS_ZOMBIE
        return process if alive and _may_work_on(process, task) else None
    except psutil.Error:
        return None


def _may_work_on(process: psutil.Process, task: Path) -> bool:
    """False where a process's environment names another task or none; one that cannot be read tells nothing."""
    try:
        environ = process.environ()
    except (psutil.AccessDenied, OSError):
        return True
    # Empty: a process that gave itself a title has written it there.
    return not environ or environ.get(TASK_VARIABLE) == str(task.resolve())


def _newest(path: Path) -> Heartbeat | None:
    try:
        return read(Heartbeat, path)
    except ContractError:
        return None


def _by_log(beat: Heartbeat | None) -> bool:
    return beat is None or beat.phase in ("starting", "ending") or beat.longest_seconds is None


def _where(beat: Heartbeat | None) -> str:
    return "has not begun" if beat is None else f"{beat.phase} at step {beat.step}"


def _is_stopped(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False
