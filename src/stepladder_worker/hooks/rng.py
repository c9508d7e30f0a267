"""Random state: carried over the boundary, and untouched by the evaluation that ends a stage (trap 12)."""

from __future__ import annotations

from typing import Any

from stepladder_worker import fingerprint, session


class RandomStateHook:
    """The next stage draws the random numbers that an uninterrupted run would have drawn."""

    args: Any
    state: Any
    is_in_train: bool

    def _load_rng_state(self, checkpoint: str | None) -> None:
        stage = session.current()
        if checkpoint is None or stage.loaded is None:
            return
        if stage.resets_rng:
            stage.evidence.note("random state reset at this boundary: the script's seed counts")
            return
        super()._load_rng_state(checkpoint)  # type: ignore[misc]
        # The manifest has the random state of rank 0; every rank has a file of its own.
        if stage.rank == 0 and stage.evidence.loaded["random_state"] != stage.loaded.state["rng"]:
            raise session.BoundaryError(
                f"stage {stage.task.stage}: the random state after loading {checkpoint} is not the saved one; "
                "hint: its file is missing or of another world size; say `handover: {rng: reset}` to go on without"
            )

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate; where only the stage's end asks for it, leave the random state as if it had not happened."""
        if not (self.is_in_train and self._only_for_the_end()):
            return super().evaluate(*args, **kwargs)  # type: ignore[misc]
        states = fingerprint.random_states()
        try:
            return super().evaluate(*args, **kwargs)  # type: ignore[misc]
        finally:
            fingerprint.restore_random_states(states)

    def _only_for_the_end(self) -> bool:
        """An uninterrupted run evaluates at full epochs or at multiples of `eval_steps`, and nowhere else."""
        if evaluates_epochs(self.args):
            on_cadence = float(self.state.epoch).is_integer()
        else:
            on_cadence = self.state.global_step % self.state.eval_steps == 0
        return session.current().ending and not on_cadence


def evaluates_epochs(args: Any) -> bool:
    """Whether TrainingArguments ask for an evaluation after each epoch (4.46 also knows the older name)."""
    strategy = getattr(args, "eval_strategy", None) or getattr(args, "evaluation_strategy", "no")
    return bool(getattr(strategy, "value", strategy) == "epoch")
