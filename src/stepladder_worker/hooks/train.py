"""`train()`: the planned checkpoint is resumed and the planned step ends it, whatever the script passes."""

from __future__ import annotations

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
        """Train the stage. The script's own `resume_from_checkpoint`, by position or by name, is replaced."""
        stage = session.current()
        wanted = None if stage.checkpoint is None else str(stage.checkpoint)
        passed = kwargs.pop("resume_from_checkpoint", args[0] if args else None)
        if _absolute(passed) != wanted:
            stage.evidence.note(f"resuming {wanted or 'nothing'} as planned; the script asked for {passed!r}")
        self.args.max_steps = stage.task.end_step
        self.args.resume_from_checkpoint = wanted
        self.args.ignore_data_skip = False
        self.args.save_only_model = False
        self.callback_handler.callbacks.insert(0, ControlCallback())
        output = super().train(wanted, *args[1:], **kwargs)  # type: ignore[misc]
        _require_end(stage)
        return output


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
