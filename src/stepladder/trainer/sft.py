"""TRL's SFTTrainer, following an order that is a pure function of (seed, name, position)."""

from __future__ import annotations

from typing import Any

from trl import SFTTrainer

from stepladder.trainer.lengths import CheckedCollator, check_tokenized, token_limit
from stepladder.trainer.loading import TrainingData
from stepladder.trainer.sampler import OrderedSampler
from stepladder.trainer.text import TextCollator


class OrderedSFTTrainer(SFTTrainer):  # type: ignore[misc]
    """Trains samples in the order of their data, and every sample whole.

    Args:
        data: what is trained, and in which order.
        args: SFTConfig. `max_length` is what a sample may have at most: longer ones are refused, not cut.
        others: as SFTTrainer's.

    Raises:
        DataError: a text sample of a data file that does not fit; of other data, only when the sample comes.
    """

    data_collator: Any

    def __init__(self, *, data: TrainingData, args: Any, processing_class: Any, **others: Any) -> None:
        limit = token_limit(args.max_length, getattr(processing_class, "tokenizer", processing_class))
        args.max_length = None
        if data.at_access:
            args.dataset_kwargs = {**(args.dataset_kwargs or {}), "skip_prepare_dataset": True}
        super().__init__(args=args, processing_class=processing_class, train_dataset=data.dataset, **others)
        self._order = OrderedSampler(data.length, data.order)
        if self._is_vision_dataset:
            self.data_collator = CheckedCollator(self.data_collator, limit)
        elif data.at_access:
            completion_only = args.completion_only_loss is not False
            self.data_collator = TextCollator(
                *(self.data_collator, self.processing_class, self.chat_template),
                *(completion_only, args.assistant_only_loss, limit),
            )
        else:
            check_tokenized(self.train_dataset, limit)

    def _get_train_sampler(self, train_dataset: Any = None) -> OrderedSampler:
        return self._order

    def _run_epoch(self, *, epoch: int, **others: Any) -> None:
        # The Trainer's own set_epoch does not get through a skipped and sharded batch sampler (several processes,
        # resumed in the middle of an epoch): the order would be that of epoch 0.
        self._order.set_epoch(epoch)
        super()._run_epoch(epoch=epoch, **others)

    def _remove_unused_columns(self, dataset: Any, description: str | None = None) -> Any:
        # What is read at access has no column too many, and our collators want the `id`.
        if isinstance(self.data_collator, CheckedCollator | TextCollator):
            return dataset
        return super()._remove_unused_columns(dataset, description)
