"""A stage's attempts, one after the other, until its end is reached: launched again where that can help."""

from __future__ import annotations

import time
from pathlib import Path

from stepladder import console, paths, shared_files
from stepladder.attempts import incomplete, ladder
from stepladder.attempts.attempt import Failure, train_stage
from stepladder.attempts.tasks import stage_state
from stepladder.errors import StageFailed
from stepladder.launch.stopping import StopRequest
from stepladder.paths import RunDirectory
from stepladder.planning.plan import Plan, PlannedStage, RetryPlan
from stepladder.records.events import Event
from stepladder.records.journal import Journal
from stepladder.report.progress import duration

#: No pause is longer, in seconds.
LONGEST_PAUSE = 600.0
_LOOK_SECONDS = 0.2


def train_to_end(
    directory: RunDirectory, run_id: str, plan: Plan, stage: PlannedStage, journal: Journal, request: StopRequest
) -> None:
    """Raises StageFailed when no further attempt is allowed or would help, Interrupted after a requested stop."""
    made, planned = 0, stage
    while True:
        stage = ladder.where_it_stands(journal.read(), planned)
        incomplete.set_aside(stage, journal)
        shared_files.release(Path(stage.output_dir))
        failure = train_stage(directory, run_id, plan, stage, journal, request)
        if failure is None:
            return
        if request.made:
            raise _last_words(failure.error, made)
        if failure.diagnosis.memory:
            if _stepped_down(directory, run_id, planned, stage.rung, journal, failure):
                continue
            failure.error.hint = ladder.hint(stage, failure.diagnosis.cause)
        if not failure.diagnosis.retry or made >= stage.retries.limit:
            raise _last_words(failure.error, made)
        made += 1
        seconds = pause(stage.retries, made)
        again = f"retry {made} of {stage.retries.limit} in {duration(seconds)}"
        console.warn(f"stage {stage.name} failed: {failure.diagnosis.sentence}; {again}")
        _wait(seconds, stage, request)


def _stepped_down(
    directory: RunDirectory, run_id: str, planned: PlannedStage, rung: int, journal: Journal, failure: Failure
) -> bool:
    """Out of memory on `rung`: the journal has the stage go on from its last checkpoint on the one below, if any."""
    below = ladder.next_rung(planned, rung)
    if below is None:
        return False
    state = stage_state(directory, run_id, planned)
    step = planned.start_step if state.latest is None else paths.step_of(state.latest)
    event = ladder.step_down(planned, below, state.attempts[-1].number, step, failure.diagnosis.cause)
    journal.append(Event.STEPPED_DOWN, **event)
    console.warn(f"{failure.diagnosis.sentence}; {ladder.told(event)}")
    return True


def pause(retries: RetryPlan, number: int) -> float:
    """Seconds before retry `number` (from 1): twice as long each time."""
    return min(LONGEST_PAUSE, retries.pause * 2.0 ** min(number - 1, 32))


def _wait(seconds: float, stage: PlannedStage, request: StopRequest) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if request.made:
            raise request.error(f"stopped before another attempt at stage {stage.name}")
        time.sleep(_LOOK_SECONDS)


def _last_words(error: StageFailed, made: int) -> StageFailed:
    if made:
        error.message = error.message.replace("failed:", f"failed again after {made} retries:", 1)
    error.hint = error.hint or "mend the cause and run the same command again: finished stages are kept"
    return error
