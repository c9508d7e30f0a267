"""`train()`: the planned checkpoint is resumed and the planned step ends it, whatever the script passes."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from stepladder_worker import session
from stepladder_worker.contract import EXIT_STOPPED
from stepladder_worker.hooks.control import ControlCallback


class TrainHook:
    """Traps 1b, 10b: `max_steps` is the plan's cumulative step, the resume flag is the plan's checkpoint."""

    args: Any
    callback_handler: Any

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train the stage; `wrap_train` sees to the checkpoint that is resumed."""
        stage = session.current()
        self.args.max_steps = stage.task.end_step
        self.args.resume_from_checkpoint = _planned(stage)
        self.args.ignore_data_skip = False
        self.args.save_only_model = False
        self.callback_handler.callbacks.insert(0, ControlCallback())
        output = super().train(*args, **kwargs)  # type: ignore[misc]
        _require_end(stage)
        return output


def wrap_train(trainer_class: Any) -> None:
    """Wrap `Trainer.train`: what a subclass or the script passes as `resume_from_checkpoint`, by position or by name,
    is replaced. A subclass may override `train` and work out a checkpoint of its own on the way down."""
    original = trainer_class.train

    @functools.wraps(original)
    def train(self: Any, *args: Any, **kwargs: Any) -> Any:
        stage = session.current()
        wanted = _planned(stage)
        passed = kwargs.pop("resume_from_checkpoint", args[0] if args else None)
        if _absolute(passed) != wanted:
            stage.evidence.note(f"resuming {wanted or 'nothing'} as planned; the script asked for {passed!r}")
        return original(self, wanted, *args[1:], **kwargs)

    trainer_class.train = train


def _planned(stage: session.Session) -> str | None:
    return None if stage.checkpoint is None else str(stage.checkpoint)


def _absolute(checkpoint: Any) -> Any:
    return str(Path(checkpoint).resolve()) if isinstance(checkpoint, (str, Path)) else checkpoint or None


def _require_end(stage: session.Session) -> None:
    if stage.stopping and not stage.finished:
        raise session.StageStopped(EXIT_STOPPED)
    if not stage.finished:
        raise session.BoundaryError(
            f"stage {stage.task.stage} stopped short: global step {stage.evidence.steps['last']}, planned "
            f"{stage.task.end_step}; hint: look for early stopping, an iterable data set that ran out, or a "
            "callback that ends training"
        )
