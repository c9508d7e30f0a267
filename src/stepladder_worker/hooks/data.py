"""Data: the planned position is where training starts, and what was drawn first is recorded (trap 4).

The position itself is set in `resume._adapt`. Skipping within an epoch draws indices only and loads nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from stepladder_worker import session


class DataHook:
    """Lets the training data loader's batch sampler record and skip."""

    args: Any

    def get_train_dataloader(self) -> Any:
        from torch.utils.data import IterableDataset  # by now the script has imported torch

        loader = super().get_train_dataloader()  # type: ignore[misc]
        stage = session.current()
        sampler = getattr(loader, "batch_sampler", None)
        if isinstance(loader.dataset, IterableDataset) or sampler is None:
            stage.evidence.note("the data set is iterable: which samples came first is not recorded")
            return loader
        # A DataLoader forbids a new batch sampler because its batch_size would then be wrong. Ours changes neither
        # the batches nor their size. accelerate keeps the loader that really iterates as `base_dataloader`.
        object.__setattr__(getattr(loader, "base_dataloader", loader), "batch_sampler", RecordedBatches(sampler))
        inexact = _inexact(getattr(sampler, "sampler", sampler), bool(self.args.dataloader_persistent_workers))
        stage.evidence.data.update(length=len(loader.dataset), batches=len(sampler), inexact=inexact)
        return loader


def _inexact(sampler: Any, persistent_workers: bool) -> str | None:
    """Why going on within these data is not the uninterrupted order to the bit; None when it is."""
    from torch.utils.data import SequentialSampler

    if persistent_workers:
        return "persistent data workers draw a seed that an uninterrupted run does not draw"
    if hasattr(sampler, "epoch") or isinstance(sampler, SequentialSampler):
        return None
    return f"{type(sampler).__name__} draws its order from the random state at the start of an epoch"


class RecordedBatches:
    """A batch sampler around the script's own: skips the batches already trained on, records the first it yields."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches
        self.skip = 0

    def __iter__(self) -> Iterator[list[int]]:
        skip, self.skip = self.skip, 0
        evidence = session.current().evidence
        epoch = getattr(getattr(self.batches, "sampler", None), "epoch", None)
        for position, batch in enumerate(self.batches):
            if position >= skip:
                evidence.batch_drawn(epoch, position, batch)
                yield batch

    def __len__(self) -> int:
        return len(self.batches)

    def __getattr__(self, name: str) -> Any:
        if name == "batches":  # not there yet while an instance is being unpickled
            raise AttributeError(name)
        return getattr(self.batches, name)


def wrap_skipping(module: ModuleType) -> None:
    """Wrap accelerate's `skip_first_batches` before anyone imports it: recorded samplers skip by themselves."""
    original = module.skip_first_batches

    @functools.wraps(original)
    def skip_first_batches(dataloader: Any, num_batches: int = 0) -> Any:
        sampler = getattr(dataloader, "batch_sampler", None)
        if not isinstance(sampler, RecordedBatches):
            return original(dataloader, num_batches)
        sampler.skip = num_batches
        return dataloader

    module.skip_first_batches = skip_first_batches  # type: ignore[attr-defined]
