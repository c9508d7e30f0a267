"""The position in the data, counted in samples: a stage or an attempt goes on at the very next one (traps 3, 4, 8).

A checkpoint says how many samples of the global order of an epoch are trained. Batch size, accumulation and the
number of processes may be others afterwards: the pass begins at that sample all the same.

Every training loop, also copies of an old one in research forks, asks `state.global_step` two things right after it
has loaded the state: how many epochs it has trained (`//` by the steps of an epoch) and how many steps of the running
one (`%`). `ShownStep` answers with the position in this stage's data. Where that lies between two steps, or where a
loop would count the rest of an accumulation wrongly, the pass is shown as one that begins there and is as long as
what is left.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stepladder_worker import session
from stepladder_worker.hooks import accumulation as accumulation_of
from stepladder_worker.hooks import data, data_random
from stepladder_worker.hooks.data_batches import RecordedBatches


class ShownStep(int):
    """The true global step, which answers a loop's questions about epoch and steps with a position in the data."""

    epoch: int
    steps: int

    @classmethod
    def at(cls, true_step: int, epoch: int, steps: int) -> ShownStep:
        shown = cls(true_step)
        shown.epoch, shown.steps = epoch, steps
        return shown

    def __floordiv__(self, steps_per_epoch: int) -> int:
        return self.epoch

    def __mod__(self, steps_per_epoch: int) -> int:
        return self.steps


class DataPositionHook:
    """Helps the Trainer's own loop to begin within an epoch, and keeps the random states of loading.

    Attributes:
        epochs_known: the loop has let us count its epochs.
        counts_rest: it counts micro-batches from the epoch's beginning, and takes the length of a pass as given.
        first_pass: what the length of its first pass is given as, where that is not the rest of full steps.
    """

    args: Any
    recorded_batches: Any
    epochs_known = False
    first_pass: dict[str, int] | None = None
    counts_rest = False

    def set_initial_training_values(self, *args: Any, **kwargs: Any) -> Any:
        """As many epochs as the stage needs from its position: the loop takes `max_steps` by the new steps an epoch."""
        epochs, *values = super().set_initial_training_values(*args, **kwargs)  # type: ignore[misc]
        self.epochs_known = True
        return max(epochs, epochs_needed(session.current(), self)), *values

    def _init_training_state(self, *args: Any, **kwargs: Any) -> Any:
        self.counts_rest = hasattr(super(), "_run_epoch")
        return super()._init_training_state(*args, **kwargs)  # type: ignore[misc]

    def _run_epoch(self, *args: Any, **kwargs: Any) -> Any:
        changed, self.first_pass = self.first_pass or {}, None
        return super()._run_epoch(*args, **{**kwargs, **changed})  # type: ignore[misc]

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """The loop loads it before or after its first fetch: draws of fetching that lie behind it stay made."""
        states = None if self.recorded_batches is None else self.recorded_batches.states
        ahead = data_random.capture() if states is not None and states.went_on else None
        super()._load_rng_state(checkpoint)  # type: ignore[misc]
        if ahead is not None:
            data_random.restore(ahead)
        elif states is not None and states.replay is not None:
            states.replay.loaded = data_random.capture()

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)  # type: ignore[misc]
        batches, rank = self.recorded_batches, session.current().rank
        if batches is not None:
            batches.states.save(data_random.file_of(Path(output_dir), rank), batches.pass_over)


def shown_step(stage: session.Session) -> int:
    """The global step to show to the loop; the loader's next pass begins at the planned sample.

    Raises BoundaryError where the position cannot be kept.
    """
    trainer = stage.trainer
    batches: RecordedBatches | None = trainer.recorded_batches
    saved = _saved(stage)
    if batches is None:
        return _by_steps(stage, saved)
    epoch, samples, left = _place(stage, batches, saved)
    steps, between = divmod(samples, data.step_samples(trainer))
    accumulation = trainer.args.gradient_accumulation_steps
    if trainer.counts_rest:
        if between:
            trainer.first_pass = {
                "steps_in_epoch": steps * accumulation + left,
                "num_update_steps_per_epoch": steps + math.ceil(left / accumulation),
            }
    elif accumulation_of.carries_over(trainer):
        steps = accumulation_of.begin(trainer, samples)
    elif between or batches.per_epoch % accumulation:
        # Some loops count the micro-batches of the first pass from its beginning and take `len()` for its end.
        batches.shows_rest, steps = True, 0
    if not trainer.epochs_known:
        _require_epochs(stage, batches, accumulation)
    return ShownStep.at(stage.true_step, epoch, steps)


def epochs_needed(stage: session.Session, trainer: Any) -> int:
    """Epochs that the loop must count to reach the stage's end from its position; 0 for iterable data."""
    batches: RecordedBatches | None = trainer.recorded_batches
    saved = _saved(stage)
    if batches is None or "samples" not in saved:
        return 0
    accumulation = int(trainer.args.gradient_accumulation_steps)
    left = math.ceil((batches.length - int(saved["samples"])) / batches.span)
    steps = stage.task.end_step - stage.true_step - math.ceil(left / accumulation)
    per_epoch = max(1, math.ceil(batches.per_epoch / accumulation))
    return int(saved["epoch"]) + 1 + math.ceil(max(0, steps) / per_epoch)


def _saved(stage: session.Session) -> Mapping[str, Any]:
    """What the checkpoint says of the position; where data are fresh, their beginning."""
    if stage.loaded is None or (stage.at_boundary and stage.task.handover.data == "fresh"):
        return {"epoch": 0, "samples": 0}
    found: Mapping[str, Any] = stage.loaded.state.get("data") or {}
    return found


def _place(stage: session.Session, batches: RecordedBatches, saved: Mapping[str, Any]) -> tuple[int, int, int]:
    """(epoch, samples, micro-batches left in it) where the next pass begins."""
    if "samples" not in saved:
        raise session.BoundaryError(
            f"stage {stage.task.stage}: {stage.checkpoint} does not say at which sample its data stand; "
            "hint: iterable data cannot be continued by a data set with a length; say `handover: {data: fresh}`"
        )
    epoch, samples = int(saved["epoch"]), int(saved["samples"])
    if samples >= batches.length > 0:
        raise session.BoundaryError(
            f"stage {stage.task.stage}: its data go on after sample {samples} of an epoch, which has "
            f"{batches.length} samples now; hint: these are other data; say `handover: {{data: fresh}}`"
        )
    left = batches.start_at(epoch, samples)
    if left <= 0:  # fewer samples than a batch are left of the epoch, and such a batch is dropped
        return epoch + 1, 0, batches.start_at(epoch + 1, 0)
    _replay(stage, batches, epoch, samples)
    return epoch, samples, left


def _replay(stage: session.Session, batches: RecordedBatches, epoch: int, samples: int) -> None:
    """Let the first pass make the draws that an uninterrupted run had made when the checkpoint was written."""
    states = batches.states
    if stage.checkpoint is None or stage.loaded is None or states is None or (epoch, samples) == (0, 0):
        return
    same_world = stage.loaded.world_size == stage.world_size
    saved = data_random.load(stage.checkpoint, stage.rank if same_world else 0)
    if stage.resets_rng or not same_world:
        # The order is still that of the epoch; training goes on with other random numbers anyway.
        saved = {"order": saved["order"]} if "order" in saved else {}
    states.replay = data_random.Replay(saved, samples == 0 and states.fetch.persistent)


def _by_steps(stage: session.Session, saved: Mapping[str, Any]) -> int:
    """Iterable data are skipped by the loop, in steps: those must take as many samples as they did."""
    step: int = stage.true_step - stage.task.data_start_step
    now = data.step_samples(stage.trainer)
    was = saved.get("step_samples", now if "samples" in saved else None)
    if step and was != now:
        raise session.BoundaryError(
            f"stage {stage.task.stage}: iterable data are counted in steps, which took {was} samples and now take "
            f"{now}; hint: keep batch size, accumulation and processes, or say `handover: {{data: fresh}}`"
        )
    return step


def _require_epochs(stage: session.Session, batches: RecordedBatches, accumulation: int) -> None:
    """A loop of its own has taken the epochs it counts from `max_steps` already."""
    counted = math.ceil(stage.task.end_step / max(1, batches.per_epoch // accumulation))
    needed = epochs_needed(stage, stage.trainer)
    if needed > counted:
        raise session.BoundaryError(
            f"stage {stage.task.stage}: the script's own loop counts {counted} epochs up to step "
            f"{stage.task.end_step}, and the data are to go on to epoch {needed}; "
            "hint: keep batch size, accumulation and processes, or say `handover: {data: fresh}`"
        )
