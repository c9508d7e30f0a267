"""Records the events of the training loop, and keeps the heartbeat."""

from __future__ import annotations

import os
import time
from typing import Any

from transformers.trainer_callback import TrainerCallback

from stepladder_worker import manifest, session, snapshot
from stepladder_worker.contract import Heartbeat, write_json

#: Shortest time between two heartbeats, in seconds.
HEARTBEAT_SECONDS = 1.0


class RecordCallback(TrainerCallback):  # type: ignore[misc]
    """Last of the Trainer's callbacks: it sees what the others decided."""

    def __init__(self) -> None:
        self.last_beat, self.last_beat_step = 0.0, 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._beat(state, "training")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        session.current().evidence.step_done(int(state.global_step))
        if time.time() - self.last_beat >= HEARTBEAT_SECONDS or control.should_training_stop:
            self._beat(state, "saving" if control.should_save else "training")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            session.current().evidence.logged(int(state.global_step))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._beat(state, "ending")

    def _beat(self, state: Any, phase: str) -> None:
        stage = session.current()
        losses = stage.evidence.losses
        if stage.task.hook:
            require_finite_loss(stage)
        now, step = time.time(), int(state.global_step)
        steps = step - self.last_beat_step
        seconds = (now - self.last_beat) / steps if self.last_beat and steps else None
        self.last_beat, self.last_beat_step = now, step
        if stage.rank == 0:
            loss = None if losses is None else losses.latest()
            beat = Heartbeat(os.getpid(), step, stage.task.end_step, loss, seconds, now, phase)
            write_json(stage.task.heartbeat_path, beat.to_dict(), durable=False)


def record_start(stage: session.Session) -> None:
    """Everything is loaded and the first batch is about to be trained: this is the start of the stage."""
    trainer = stage.trainer
    start = snapshot.take(trainer.model, trainer.optimizer, int(trainer.state.global_step))
    del start["rng"]  # the loop restores it on its own terms: see evidence.loaded
    stage.evidence.start = start
    stage.evidence.best_metric["start"] = trainer.state.best_metric
    if stage.task.hook:
        require_continuation(stage)
    stage.evidence.write("running")


def require_finite_loss(stage: session.Session) -> None:
    """Trap 13: a NaN must not train on, nor hide behind the Trainer's logging filter."""
    step = None if stage.evidence.losses is None else stage.evidence.losses.non_finite_step()
    if step is not None:
        raise session.BoundaryError(
            f"stage {stage.task.stage}: the loss is not finite at step {step}; "
            "hint: lower the learning rate, clip gradients, or look at the samples of that step"
        )


def require_continuation(stage: session.Session) -> None:
    """What was loaded equals, by name, what the checkpoint says it holds (the contract's first clause)."""
    start = stage.evidence.start
    if stage.loaded is None or start is None:
        return
    for part in ["weights"] if stage.resets_optimizer else ["weights", "moments", "counters"]:
        names = manifest.differences(stage.loaded.state[part], start[part])
        if names:
            raise session.BoundaryError(
                f"stage {stage.task.stage}: {part} of {len(names)} parameters differ after loading "
                f"{stage.checkpoint}, first {names[0]}; hint: something between loading and training changed them, "
                "or the model is another one; look at what the script does before train()"
            )
