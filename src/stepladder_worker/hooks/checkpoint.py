"""Checkpoints: only finite ones, each written once, rotated after the new one is complete (traps 6, 7b, 9, 13)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stepladder_worker import manifest, session, snapshot
from stepladder_worker.hooks.record import require_finite_loss
from stepladder_worker.hooks.rng import evaluates_epochs


class CheckpointHook:
    """Guards `_save_checkpoint`. `save_total_limit` is hidden from the Trainer and applied here: it would rotate
    before the new checkpoint is complete, and delete the boundary checkpoint when a best model exists."""

    args: Any
    state: Any
    model: Any
    optimizer: Any

    def train(self, *args: Any, **kwargs: Any) -> Any:
        self._limit, self.args.save_total_limit = self.args.save_total_limit, None
        return super().train(*args, **kwargs)  # type: ignore[misc]

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Trap 6: a checkpoint where training ends, whatever the saving strategy says (`no`, `best`, `epoch`).

        With an evaluation after each epoch it is written after that one, as the Trainer does: the evaluation draws
        random numbers and may find the best model.
        """
        output = super()._maybe_log_save_evaluate(*args, **kwargs)  # type: ignore[misc]
        stage = session.current()
        due = stage.epoch_over or not evaluates_epochs(self.args)
        if stage.ending and due and int(self.state.global_step) not in stage.saved_steps:
            model = args[2] if len(args) > 2 else kwargs["model"]
            self._save_checkpoint(model, args[3] if len(args) > 3 else kwargs["trial"])
        return output

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        stage = session.current()
        step = int(self.state.global_step)
        if step in stage.saved_steps:
            return  # an epoch that ends at the stage's last step asks again
        require_finite_loss(stage)
        bad = snapshot.non_finite(self.model, self.optimizer)
        if bad:
            raise session.BoundaryError(
                f"stage {stage.task.stage}: {bad[0]} is not finite before saving step {step}; "
                "hint: lower the learning rate, clip gradients, or look at the samples before that step"
            )
        super()._save_checkpoint(*args, **kwargs)  # type: ignore[misc]
        if stage.rank == 0 and self._limit:
            self._rotate(stage, Path(self.args.output_dir) / f"checkpoint-{step}")

    def _rotate(self, stage: session.Session, newest: Path) -> None:
        best = self.state.best_model_checkpoint
        kept = {newest, *([Path(best)] if best else [])}
        own = [path for _, path in sorted(manifest.checkpoints(newest.parent)) if _is_own(path, stage)]
        older = [path for path in own if path not in kept]
        for path in older[: max(0, len(older) + len(kept) - self._limit)]:
            stage.evidence.note(f"deleting {path.name} (save_total_limit {self._limit})")
            manifest.discard(path)


def _is_own(checkpoint: Path, stage: session.Session) -> bool:
    return manifest.owner(checkpoint) in (stage.task.run_id, None)
