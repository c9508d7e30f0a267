"""Records the events of the training loop, and keeps the heartbeat."""

from __future__ import annotations

from typing import Any

from transformers.trainer_callback import TrainerCallback

from stepladder_worker import carried, distributed, manifest, objective, parked, session, snapshot
from stepladder_worker.hooks import trainable


class RecordCallback(TrainerCallback):  # type: ignore[misc]
    """Last of the Trainer's callbacks: it sees what the others decided."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        session.current().pulse.enter("training", int(state.global_step))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        stage, step = session.current(), int(state.global_step)
        stage.evidence.step_done(step)
        if stage.pulse.step_done(step) or control.should_training_stop:
            _beat(stage)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            session.current().evidence.logged(int(state.global_step))

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Of an evaluation within training; one after it is part of the end."""
        pulse = session.current().pulse
        if pulse.phase != "ending":
            pulse.evaluating()

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        pulse = session.current().pulse
        if pulse.phase != "ending":
            pulse.enter("training")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        stage = session.current()
        _beat(stage)
        stage.pulse.enter("ending")


def _beat(stage: session.Session) -> None:
    if stage.task.hook:
        require_finite_loss(stage)
    stage.pulse.beat(None if stage.evidence.losses is None else stage.evidence.losses.latest())


def record_start(stage: session.Session) -> None:
    """Everything is loaded and the first batch is about to be trained: this is the start of the stage."""
    trainer = stage.trainer
    start = snapshot.take(trainer.model, trainer.optimizer, int(trainer.state.global_step))
    del start["rng"]  # the loop restores it on its own terms: see evidence.loaded
    start["parked"] = parked.prints(stage.parked)
    stage.evidence.start = start
    trainable.record(stage)
    stage.evidence.engine = snapshot.engine_name(trainer.model, trainer.optimizer)
    stage.evidence.loaded["random_state"] = distributed.gather(stage.evidence.loaded["random_state"])
    stage.evidence.best_metric["start"] = trainer.state.best_metric
    if stage.task.hook:
        require_engine(stage)
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


def require_engine(stage: session.Session) -> None:
    """What was asked for is at work, and is an engine whose state is known.

    accelerate makes plain data parallelism of FSDP where it does not find the devices for it, without a word.
    """
    asked, found = stage.task.engine, stage.evidence.engine
    if asked == "fsdp" and found != "fsdp":
        raise session.BoundaryError(
            f"stage {stage.task.stage}: the curriculum asks for fsdp, but no parameter is sharded ({found}); "
            "hint: FSDP needs accelerators and more than one process; remove `fsdp` to train without"
        )
    if asked == "deepspeed" and found != "zero":
        raise session.BoundaryError(
            f"stage {stage.task.stage}: the curriculum asks for deepspeed, but no ZeRO optimizer is at work ({found}), "
            "and only its state can be compared by name; hint: set `zero_optimization: {stage: 2}` or 3 in its "
            "configuration"
        )


def require_continuation(stage: session.Session) -> None:
    """What was loaded equals, by name, what the checkpoint says it holds (the contract's first clause)."""
    start = stage.evidence.start
    if stage.loaded is None or start is None:
        return
    held = {**stage.loaded.state, **carried.expected(stage.loaded.state, start["optimizer_names"])}
    if stage.task.new_objective and stage.at_boundary:
        held["weights"] = _taken_over(stage, held["weights"], start["weights"])
    # Rank 0 writes down what is parked, so it alone holds all of it.
    optimizer = ["moments", "counters", *(["parked"] if stage.rank == 0 else [])]
    for part in ["weights"] if stage.resets_optimizer else ["weights", *optimizer]:
        names = manifest.differences(held[part], start[part])
        if names:
            raise session.BoundaryError(
                f"stage {stage.task.stage}: {part} of {len(names)} parameters differ after loading "
                f"{stage.checkpoint}, first {names[0]}; hint: something between loading and training changed them, "
                "or the model is another one; look at what the script does before train()"
            )


def _taken_over(stage: session.Session, saved: dict[str, str], now: dict[str, str]) -> dict[str, str]:
    """The weights that the model of another objective must start with; said aloud, for its head starts anew."""
    taken = objective.taken_over(saved, now)
    if not taken.common:
        raise session.BoundaryError(
            f"stage {stage.task.stage}: none of the {len(saved)} parameters of {stage.checkpoint} fits this model by "
            "name and shape; hint: the stages must train models of one family"
        )
    stage.evidence.note(f"another objective: {taken}")
    return objective.expected(saved, now)
