"""Data: what is really drawn is recorded, and a checkpoint knows its position in samples (traps 3, 4).

Only observes; `data_position.py` brings the loop to the planned position.
"""

from __future__ import annotations

import functools
import math
from types import ModuleType
from typing import Any

from stepladder_worker import session


class DataHook:
    """Puts a recording batch sampler into the training data loader, and counts what is trained."""

    args: Any
    recorded_batches: Any = None
    _train_batch_size: int

    def get_train_dataloader(self) -> Any:
        """The script's loader; with `recorded_batches` in it where its samples have an index."""
        from stepladder_worker.hooks import accumulation, data_batches  # by now the script has imported torch

        loader = super().get_train_dataloader()  # type: ignore[misc]
        stage = session.current()
        at_once = self._train_batch_size * stage.world_size
        self.recorded_batches = batches = data_batches.record(loader, at_once, stage.task.hook)
        stage.evidence.data["shared_by"] = _shared_by(self)
        if batches is None:
            stage.evidence.note("the data set is iterable: which samples came first is not recorded")
        else:
            batches.left_out = accumulation.left_out(self)
            if batches.left_out:
                stage.evidence.note(f"the loop leaves out the last {batches.left_out} micro-batch(es) of every epoch")
            stage.evidence.data.update(batches.facts())
        return loader

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().training_step(*args, **kwargs)  # type: ignore[misc]
        if self.recorded_batches is not None:
            self.recorded_batches.batch_trained()
        return loss

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        if self.recorded_batches is not None:
            data = session.current().evidence.data
            data["inexact"], data["astray"] = self.recorded_batches.inexact, self.recorded_batches.astray
        super()._save_checkpoint(*args, **kwargs)  # type: ignore[misc]


def _shared_by(trainer: Any) -> int:
    """Ranks that train the same samples on purpose: tensor, context and sequence parallelism."""
    sizes = (getattr(trainer, f"get_{kind}_size", None) for kind in ("tp", "cp", "sp"))
    return math.prod(int(size()) for size in sizes if size is not None)


def position(trainer: Any) -> dict[str, Any]:
    """Where the data stand, as a checkpoint's Snapshot keeps it: the same on every rank but for `next`.

    `epoch` and `samples`: so many samples of the global order of that epoch have been trained, on all processes
    together; an epoch that is over is the next one at 0. `next`: indices of the micro-batch that this process trains
    next, where it has been drawn already. Iterable data have no position: `step_samples` alone is known of them.
    """
    batches = trainer.recorded_batches
    if batches is None:
        return {"step_samples": step_samples(trainer)}
    found: dict[str, Any] = batches.position()
    return found


def step_samples(trainer: Any) -> int:
    """Samples of one optimizer step over all processes."""
    return int(
        trainer._train_batch_size * trainer.args.gradient_accumulation_steps * session.current().world_size,
    )


def wrap_skipping(module: ModuleType) -> None:
    """Wrap accelerate's `skip_first_batches` before anyone imports it: recorded samplers skip by themselves."""
    original = module.skip_first_batches

    @functools.wraps(original)
    def skip_first_batches(dataloader: Any, num_batches: int = 0) -> Any:
        from stepladder_worker.hooks.data_batches import RecordedBatches

        sampler = getattr(dataloader, "batch_sampler", None)
        if not isinstance(sampler, RecordedBatches):
            session.current().evidence.data["skipped"] = num_batches
            return original(dataloader, num_batches)
        sampler.skip_asked(num_batches)
        return dataloader

    module.skip_first_batches = skip_first_batches  # type: ignore[attr-defined]
