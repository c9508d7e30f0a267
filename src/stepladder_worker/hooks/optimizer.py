"""The optimizer's state comes from the checkpoint, its hyper-parameters from this stage (traps 2, 5, 9b, 10)."""

from __future__ import annotations

from typing import Any

from torch.optim.lr_scheduler import LambdaLR

from stepladder_worker import session, snapshot
from stepladder_worker.hooks import learning_rate


class OptimizerHook:
    """Loads moments and counters, then puts the stage's own hyper-parameters back."""

    model: Any
    optimizer: Any
    lr_scheduler: Any

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        stage = session.current()
        if checkpoint is None:
            return
        fresh = [_hyperparameters(group, self.optimizer) for group in self.optimizer.param_groups]
        if stage.resets_optimizer:
            stage.evidence.note("optimizer reset at this boundary: moments and step counters start anew")
        else:
            self._require_same_parameters(stage)
            super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
            for group, own in zip(self.optimizer.param_groups, fresh, strict=True):
                group.update(own)
        self._place_schedule(stage.true_step, [own["initial_lr"] for own in fresh])

    def _require_same_parameters(self, stage: session.Session) -> None:
        """torch matches moments by position, so other parameters would take over foreign moments."""
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        have = snapshot.optimizer_names(names, self.optimizer)
        saved = [] if stage.loaded is None else stage.loaded.state["optimizer_names"]
        if have != saved:
            changed = sorted({*have} ^ {*saved}) or ["their order"]
            raise session.BoundaryError(
                f"stage {stage.task.stage}: the optimizer of {stage.checkpoint} has {len(saved)} parameters, this "
                f"stage trains {len(have)}; differing: {', '.join(changed[:5])}; hint: keep the trainable "
                "parameters equal or hand over with `handover: {optimizer: reset}`"
            )

    def _place_schedule(self, step: int, bases: list[float]) -> None:
        if isinstance(self.lr_scheduler, LambdaLR):
            learning_rate.place(self.lr_scheduler, self.optimizer, bases, step)
        elif hasattr(self.lr_scheduler, "base_lrs"):
            self.lr_scheduler.base_lrs = list(bases)


def _hyperparameters(group: dict[str, Any], optimizer: Any) -> dict[str, Any]:
    """What this stage sets of a parameter group. `initial_lr` is the base rate before any schedule.

    Only what the optimizer's constructor takes is a hyper-parameter; some optimizers keep state in their groups (a
    step counter), which belongs to the checkpoint.
    """
    names = {"lr", *optimizer.defaults}
    own = {key: value for key, value in group.items() if key in names}
    return {"initial_lr": group.get("initial_lr", group["lr"]), **own}
