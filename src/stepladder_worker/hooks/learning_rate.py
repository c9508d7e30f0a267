"""The learning rate follows the plan's curve, as a function of the global step (trap 1a)."""

from __future__ import annotations

from typing import Any

from torch.optim.lr_scheduler import LambdaLR

from stepladder_worker import session
from stepladder_worker.schedule import Curve


class LearningRateHook:
    """Replaces the script's scheduler unless the plan has no curve (`schedule: script`)."""

    optimizer: Any
    lr_scheduler: Any

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """A LambdaLR over the planned curve, for the given optimizer or the Trainer's."""
        stage = session.current()
        if stage.task.curve is None:
            return super().create_scheduler(num_training_steps, optimizer)  # type: ignore[misc]
        if self.lr_scheduler is not None:
            stage.evidence.note("the planned learning-rate curve replaces the scheduler that the script passed")
        self.lr_scheduler = follow(stage.task.curve, self.optimizer if optimizer is None else optimizer)
        self._created_lr_scheduler = True
        return self.lr_scheduler


def follow(curve: Curve, optimizer: Any) -> LambdaLR:
    """A scheduler whose step number is the global step. Groups keep their own base learning rates."""

    def factor(global_step: int) -> float:
        # LambdaLR asks for step 0 when it is made, where the curve of a later stage does not exist yet.
        return curve.factor(max(global_step, curve.offset))

    return LambdaLR(optimizer, factor)


def place(scheduler: Any, optimizer: Any, bases: list[float], global_step: int) -> None:
    """Put a LambdaLR at a global step with the given base rates, as if it had stepped there itself."""
    scheduler.base_lrs = list(bases)
    scheduler.last_epoch = global_step
    scheduler._step_count = global_step + 1
    for group, base, factor in zip(optimizer.param_groups, bases, scheduler.lr_lambdas, strict=True):
        group["initial_lr"] = base
        group["lr"] = base * factor(global_step)
    scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]
