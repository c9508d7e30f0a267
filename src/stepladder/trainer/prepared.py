"""Batches as training would make them, outside of a Trainer, with the samples that cannot be used told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trl.chat_template_utils import get_training_chat_template, has_generation_markers
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, DataCollatorForVisionLanguageModeling

from stepladder.data.samples import DataError
from stepladder.trainer.lengths import CheckedCollator, Collator
from stepladder.trainer.text import TextCollator


@dataclass(frozen=True)
class Prepared:
    """A batch.

    Attributes:
        names: ids of its samples.
        batch: their tensors as a model takes them, with `labels`; None where no sample is left.
        bad: what was said of samples that cannot be used.
    """

    names: list[str]
    batch: Mapping[str, Any] | None
    bad: list[str]


class Preparer:
    """Turns rows of a dataset into a Prepared: a collate function for a loader over row numbers.

    Args:
        dataset: of `TrainingData`.
        processor: of the model, or its tokenizer.
        assistant_only: see SFTConfig's `assistant_only_loss`.
    """

    def __init__(self, dataset: Any, processor: Any, assistant_only: bool) -> None:
        self._dataset, self._processor, self._assistant_only = dataset, processor, assistant_only

    def __call__(self, rows: Sequence[int]) -> Prepared:
        try:
            examples = [self._dataset[row] for row in rows]
            return Prepared([example["id"] for example in examples], self._collated(examples), [])
        except DataError:
            return self._without_bad(rows)

    def _without_bad(self, rows: Sequence[int]) -> Prepared:
        """One after the other, to tell which samples are at fault."""
        good, bad = [], []
        for row in rows:
            try:
                self._collated([example := self._dataset[row]])
                good.append(example)
            except DataError as error:
                bad.append(str(error))
        return Prepared([example["id"] for example in good], self._collated(good) if good else None, bad)

    def _collated(self, examples: list[dict[str, Any]]) -> Mapping[str, Any]:
        return self._collator(examples[0])([dict(example) for example in examples])

    def _collator(self, example: Mapping[str, Any]) -> Collator:
        """TRL's collators with the arguments that SFTTrainer gives them."""
        tokenizer = getattr(self._processor, "tokenizer", self._processor)
        template = None
        if self._assistant_only and not has_generation_markers(self._processor.chat_template):
            template = get_training_chat_template(self._processor)
        if "images" not in example:
            collate = DataCollatorForLanguageModeling(pad_token_id=tokenizer.pad_token_id)
            return TextCollator(collate, self._processor, template, True, self._assistant_only, None)
        if tokenizer is self._processor:
            raise DataError(f"sample {example['id']} has images, and the model takes text\nhint: name another model")
        collate = DataCollatorForVisionLanguageModeling(
            processor=self._processor,
            completion_only_loss="completion" in example,
            assistant_only_loss=self._assistant_only,
            chat_template=template,
        )
        return CheckedCollator(collate, None)
