"""Random state: carried over the boundary, and untouched by the evaluation that ends a stage (trap 12)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stepladder_worker import fingerprint, session, unpickling


class RandomStateHook:
    """The next stage draws the random numbers that an uninterrupted run would have drawn."""

    args: Any
    state: Any
    is_in_train: bool
    recorded_batches: Any
    _loaded_states: dict[str, Any] | None = None

    def _load_rng_state(self, checkpoint: str | None) -> None:
        stage = session.current()
        if checkpoint is None or stage.loaded is None:
            return
        if stage.resets_rng:
            stage.evidence.note("random state reset at this boundary: the script's seed counts")
            return
        saved = stage.loaded.state["rng"]
        with unpickling.random_states_allowed():
            if len(saved) == stage.world_size:
                super()._load_rng_state(checkpoint)  # type: ignore[misc]
            else:
                _load_of_other_world(stage, checkpoint, len(saved))
        if stage.evidence.loaded["random_state"] != saved[stage.rank % len(saved)]:
            raise session.BoundaryError(
                f"stage {stage.task.stage}: the random state after loading {checkpoint} is not the saved one; "
                "hint: its file is missing or damaged; say `handover: {rng: reset}` to go on without"
            )
        self._loaded_states = fingerprint.random_states()

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """A loop that was shown no step to skip has loaded the state before it began to fetch, which draws a number."""
        states, self._loaded_states = self._loaded_states, None
        batches = self.recorded_batches
        if states is not None and batches is not None and batches.begins_within and not batches.states.went_on:
            fingerprint.restore_random_states(states)
        return super().training_step(*args, **kwargs)  # type: ignore[misc]

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


def _load_of_other_world(stage: session.Session, checkpoint: str, saved: int) -> None:
    """With another number of processes the Trainer would drop the state: rank r takes that of rank r modulo `saved`."""
    place = Path(checkpoint)
    path = place / ("rng_state.pth" if saved == 1 else f"rng_state_{stage.rank % saved}.pth")
    fingerprint.restore_random_states(unpickling.load(path))
    stage.evidence.note(f"random states of {saved} processes handed over to {stage.world_size}")
    stage.evidence.loaded.update(rng=checkpoint, random_state=fingerprint.of_random_state(fingerprint.random_states()))


def evaluates_epochs(args: Any) -> bool:
    """Whether TrainingArguments ask for an evaluation after each epoch (4.46 also knows the older name)."""
    strategy = getattr(args, "eval_strategy", None) or getattr(args, "evaluation_strategy", "no")
    return bool(getattr(strategy, "value", strategy) == "epoch")
