"""TRL's SFTTrainer, following an order that is a pure function of (seed, name, position)."""

from __future__ import annotations

from typing import Any

from trl import SFTTrainer

from stepladder.trainer.lengths import CheckedCollator, check_tokenized, token_limit
from stepladder.trainer.sampler import OrderedSampler


class OrderedSFTTrainer(SFTTrainer):  # type: ignore[misc]
    """Trains samples in the order of `stepladder_worker.order`, and every sample whole.

    Args:
        data_name: names the data in the order, so that a later stage on the same data continues it.
        args: SFTConfig. `max_length` is what a sample may have at most: longer ones are refused, not cut.
        others: as SFTTrainer's.

    Raises:
        DataError: a text sample that does not fit; with images, only when the sample comes.
    """

    data_collator: Any

    def __init__(self, *, data_name: str, args: Any, processing_class: Any, **others: Any) -> None:
        limit = token_limit(args.max_length, getattr(processing_class, "tokenizer", processing_class))
        args.max_length = None
        super().__init__(args=args, processing_class=processing_class, **others)
        data_seed = args.seed if args.data_seed is None else args.data_seed
        self._order = OrderedSampler(len(self.train_dataset), data_seed, data_name)
        if "images" in self.train_dataset.column_names:
            self.data_collator = CheckedCollator(self.data_collator, limit)
        else:
            check_tokenized(self.train_dataset, limit)

    def _get_train_sampler(self, train_dataset: Any = None) -> OrderedSampler:
        return self._order

    def _run_epoch(self, *, epoch: int, **others: Any) -> None:
        # The Trainer's own set_epoch does not get through a skipped and sharded batch sampler (several processes,
        # resumed in the middle of an epoch): the order would be that of epoch 0.
        self._order.set_epoch(epoch)
        super()._run_epoch(epoch=epoch, **others)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if "id" not in self._signature_columns:
            self._signature_columns.append("id")
