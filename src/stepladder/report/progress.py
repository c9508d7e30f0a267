"""Progress of a run while it trains: stage, step of total, loss, time left for the whole curriculum. To stderr."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

from stepladder.planning.plan import Plan, PlannedStage
from stepladder_worker.contract import ContractError, Heartbeat, read

#: Without a terminal, seconds between two lines at the least.
QUIET_SECONDS = 60.0


class Progress:
    """One changing line on a terminal; elsewhere a line at every tenth of a stage or a minute."""

    def __init__(self, plan: Plan, stage: PlannedStage, heartbeat: Path) -> None:
        self.plan, self.stage, self.heartbeat = plan, stage, heartbeat
        self.terminal = sys.stderr.isatty()
        self.shown, self.shown_at, self.shown_tenth = "", time.monotonic(), -1

    def starting(self, attempt: int, log: Path) -> None:
        """Say which stage starts and where its output goes."""
        again = f", attempt {attempt}" if attempt > 1 else ""
        span = f"steps {self.stage.start_step} -> {self.stage.end_step}"
        _write(f"stage {self.stage.index}/{len(self.plan.stages)} {self.stage.name}: {span}{again}; log {log}\n")

    def tick(self) -> None:
        """Show the newest heartbeat, if it says anything new."""
        try:
            beat = read(Heartbeat, self.heartbeat)
        except ContractError:
            return
        line = self._line(beat)
        if self.terminal:
            if line != self.shown:
                _write(f"\r\x1b[K{line}")
                self.shown = line
            return
        done = (beat.step - self.stage.start_step) / (self.stage.end_step - self.stage.start_step)
        due = time.monotonic() - self.shown_at >= QUIET_SECONDS
        if line != self.shown and (due or int(done * 10) > self.shown_tenth):
            _write(line + "\n")
            self.shown, self.shown_at, self.shown_tenth = line, time.monotonic(), int(done * 10)

    def close(self) -> None:
        """End the changing line."""
        self.tick()
        if self.terminal and self.shown:
            _write("\n")

    def _line(self, beat: Heartbeat) -> str:
        whole = self.plan.stages[-1].end_step
        parts = [f"  {self.stage.name}: step {beat.step} of {self.stage.end_step} ({whole} in all)"]
        if beat.loss is not None:
            parts.append(f"loss {beat.loss:.4f}")
        if beat.step_seconds:
            left = (self.plan.stages[-1].end_step - beat.step) * beat.step_seconds
            parts.append(f"{duration(left)} left")
        if beat.phase != "training":
            parts.append(beat.phase)
        return ", ".join(parts)


def _write(text: str) -> None:
    """A console that is gone (a closed pipe, a lost connection) must not end the training."""
    with contextlib.suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
