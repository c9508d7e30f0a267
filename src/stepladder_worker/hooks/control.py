"""Steers the training loop: the true step at its start, its end at the planned step or at a requested stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers.trainer_callback import TrainerCallback

from stepladder_worker import distributed, session
from stepladder_worker.contract import ContractError, read_json

#: Steps between two looks of several ranks at a requested stop.
AGREE_STEPS = 5


class ControlCallback(TrainerCallback):  # type: ignore[misc]
    """First of the Trainer's callbacks, so that every other one sees the true global step."""

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
        elif _agreed(stage.task.control_path, int(state.global_step)):
            stage.ending = stage.stopping = control.should_training_stop = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Also called when training stops within an epoch: the last chance to save."""
        session.current().epoch_over = True


def _agreed(control_path: str, step: int) -> bool:
    """Several ranks look at the same steps only and decide together: one alone could see the file a step earlier."""
    if distributed.world() == 1:
        return _stop_requested(control_path, step)
    return step % AGREE_STEPS == 0 and any(distributed.gather(_stop_requested(control_path, step)))


def _stop_requested(control_path: str, step: int) -> bool:
    """A control file names the step at which all ranks stop together; one being written is read a step later."""
    if not Path(control_path).exists():
        return False
    try:
        return step >= int(read_json(control_path)["stop_step"])
    except (ContractError, KeyError, TypeError, ValueError):
        return False
