"""The optimizer's state comes from the checkpoint, its hyper-parameters from this stage (traps 2, 5, 9b, 10)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from torch.optim.lr_scheduler import LambdaLR

from stepladder_worker import parked, session, snapshot
from stepladder_worker.hooks import learning_rate, moments

#: Hyper-parameters of a group where the optimizer does not name its own (DeepSpeed's do not).
DEFAULTS = ("weight_decay", "betas", "eps", "momentum", "bias_correction", "amsgrad")


class OptimizerHook:
    """Loads moments and counters, then puts the stage's own hyper-parameters back."""

    model: Any
    optimizer: Any
    lr_scheduler: Any
    is_deepspeed_enabled: bool
    is_fsdp_enabled: bool

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        stage = session.current()
        if checkpoint is None:
            return
        own = hyper_parameters(self.optimizer)
        if stage.resets_optimizer:
            dropped = len(stage.loaded.state.get("parked", {})) if stage.loaded else 0
            also = f", {dropped} parked ones are dropped" if dropped else ""
            stage.evidence.note(f"optimizer reset at this boundary: moments and step counters start anew{also}")
        else:
            stage.parked = parked.load(Path(checkpoint))
            with self._loading(stage):
                super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
            reached = [group["lr"] for group in self.optimizer.param_groups]
            put_back(self.optimizer, own)
            if self._follows_a_metric(stage, own):
                for group, rate in zip(self.optimizer.param_groups, reached, strict=True):
                    group["lr"] = rate
        place_schedule(self.lr_scheduler, self.optimizer, own, stage.true_step)

    def _loading(self, stage: session.Session) -> AbstractContextManager[None]:
        """State is matched by name; where an engine loads its own partitions, the parameters must be the same."""
        if not (self.is_deepspeed_enabled or self.is_fsdp_enabled):
            return moments.by_name(self.model, self.optimizer, stage)
        self._require_same_parameters(stage)
        return nullcontext()

    def _follows_a_metric(self, stage: session.Session, own: list[dict[str, Any]]) -> bool:
        """A scheduler without base rates (ReduceLROnPlateau) keeps its state in the groups' rates alone.

        They go on unless this stage starts from other rates than the stage before, which are then in force.
        """
        if stage.task.curve is not None or stage.loaded is None or hasattr(self.lr_scheduler, "base_lrs"):
            return False
        return bool(stage.loaded.state.get("bases") == [values["initial_lr"] for values in own])

    def _require_same_parameters(self, stage: session.Session) -> None:
        """torch matches moments by position, so other parameters would take over foreign moments."""
        have = snapshot.optimizer_order(self.model, self.optimizer)
        saved = [] if stage.loaded is None else stage.loaded.state["optimizer_names"]
        if have != saved:
            changed = sorted({*have} ^ {*saved}) or ["their order"]
            raise session.BoundaryError(
                f"stage {stage.task.stage}: the optimizer of {stage.checkpoint} has {len(saved)} parameters, this "
                f"stage trains {len(have)}; differing: {', '.join(changed[:5])}; hint: keep the trainable "
                "parameters equal or hand over with `handover: {optimizer: reset}`"
            )


def hyper_parameters(optimizer: Any) -> list[dict[str, Any]]:
    """What this stage sets of every parameter group. `initial_lr` is the base rate before any schedule.

    Only what the optimizer's constructor takes is a hyper-parameter; some optimizers keep state in their groups (a
    step counter), which belongs to the checkpoint.
    """
    names = {"lr", *getattr(optimizer, "defaults", DEFAULTS)}
    return [
        {"initial_lr": group.get("initial_lr", group["lr"]), **{k: v for k, v in group.items() if k in names}}
        for group in optimizer.param_groups
    ]


def put_back(optimizer: Any, own: list[dict[str, Any]]) -> None:
    """Set the groups' hyper-parameters to what `hyper_parameters` returned before something was loaded."""
    for group, values in zip(optimizer.param_groups, own, strict=True):
        group.update(values)


def place_schedule(scheduler: Any, optimizer: Any, own: list[dict[str, Any]], step: int) -> None:
    """Put the scheduler at a global step, with the base rates of this stage."""
    bases = [values["initial_lr"] for values in own]
    if isinstance(scheduler, LambdaLR):
        learning_rate.place(scheduler, optimizer, bases, step)
    elif hasattr(scheduler, "base_lrs"):
        scheduler.base_lrs = bases
