"""Steers the training loop: the true step at its start, its end at the planned step or at a requested stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers.trainer_callback import TrainerCallback

from stepladder_worker import distributed, session, signals

#: Seconds between two looks of several ranks at a requested stop, about: all look at the same steps.
AGREE_SECONDS = 2.0


class ControlCallback(TrainerCallback):  # type: ignore[misc]
    """First of the Trainer's callbacks, so that every other one sees the true global step."""

    def __init__(self) -> None:
        self.next_look = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The loop has computed its data position from what `resume` showed it: put the true step back."""
        stage = session.current()
        state.global_step = stage.true_step
        for counter in ("_globalstep_last_logged", "_initial_global_step"):
            if hasattr(stage.trainer, counter):
                setattr(stage.trainer, counter, stage.true_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End at the planned step, or at a requested stop. CheckpointHook sees to the checkpoint."""
        stage = session.current()
        batches = stage.trainer.recorded_batches
        if batches is not None:  # a loop that was shown a shorter first pass takes it for a whole epoch
            state.epoch = batches.epochs_trained
        if state.global_step >= stage.task.end_step:
            stage.ending = control.should_training_stop = True
        elif self._agreed(stage, int(state.global_step)):
            stage.ending = stage.stopping = control.should_training_stop = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Also called when training stops within an epoch: the last chance to save."""
        session.current().epoch_over = True

    def _agreed(self, stage: session.Session, step: int) -> bool:
        """Several ranks decide together, at steps that all compute alike: one alone could hear of it a step earlier.

        They look after each step that takes `AGREE_SECONDS`, and seldom enough to cost nothing where steps are short.
        """
        if distributed.world() == 1:
            return _wanted(stage)
        if step < self.next_look:
            return False
        answers = distributed.gather((_wanted(stage), stage.pulse.step_seconds or AGREE_SECONDS))
        self.next_look = step + max(1, int(AGREE_SECONDS / max(seconds for _, seconds in answers)))
        return any(wanted for wanted, _ in answers)


def _wanted(stage: session.Session) -> bool:
    """Whether this process knows of a request to stop: by the control file or by a signal."""
    return signals.stop_requested() or Path(stage.task.control_path).exists()
