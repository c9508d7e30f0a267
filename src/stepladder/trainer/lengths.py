"""No sample is trained in part: what does not fit, or leaves nothing to train on, is named and refused.

TRL cuts a sample at `max_length`. Cutting images fails far from the cause; cutting all of an answer gives loss 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from stepladder.data.lengths import NO_LIMIT
from stepladder.data.samples import DataError

#: Label of a token that is not trained.
UNTRAINED = -100

Collator = Callable[[list[dict[str, Any]]], Mapping[str, Tensor]]


def token_limit(max_length: int | None, tokenizer: Any) -> int | None:
    """Tokens a sample may have: `max_length` if given, at most the tokenizer's `model_max_length`; None without any."""
    limits = [max_length, tokenizer.model_max_length]
    return min((int(limit) for limit in limits if limit is not None and limit < NO_LIMIT), default=None)


def check_sample(name: str, tokens: int, trained: int, limit: int | None) -> None:
    """Refuse one sample of `tokens` tokens, `trained` of them with a label; raises DataError naming it."""
    if limit is not None and tokens > limit:
        raise DataError(
            f"sample {name} has {tokens} tokens, {tokens - limit} more than max_length allows ({limit})\n"
            "hint: raise max_length (or the tokenizer's model_max_length), lower max_tiles, or shorten the sample"
        )
    if trained == 0:
        raise DataError(
            f"sample {name} has no token to train on: {tokens} tokens, all of the prompt\n"
            "hint: give the sample an answer; with assistant_only_loss, check the chat template's generation marks"
        )


def check_tokenized(dataset: Any, limit: int | None) -> None:
    """Check all samples of a dataset that TRL has tokenized (columns `id`, `input_ids`, `labels`)."""
    for sample in dataset.select_columns(["id", "input_ids", "labels"]):
        trained = sum(label != UNTRAINED for label in sample["labels"])
        check_sample(sample["id"], len(sample["input_ids"]), trained, limit)


class CheckedCollator:
    """TRL's collator for images and text, with every sample of a batch checked: their tokens are not known before."""

    def __init__(self, collate: Collator, limit: int | None) -> None:
        self._collate = collate
        self._limit = limit

    def __call__(self, examples: Sequence[dict[str, Any]]) -> Mapping[str, Tensor]:
        names = [example["id"] for example in examples]
        _check_uniform(examples)
        batch = self._collate([{key: value for key, value in e.items() if key != "id"} for e in examples])
        tokens = batch["attention_mask"].sum(dim=1).tolist()
        trained = (batch["labels"] != UNTRAINED).sum(dim=1).tolist()
        for name, length, answer in zip(names, tokens, trained, strict=True):
            check_sample(name, length, answer, self._limit)
        return batch


def _check_uniform(examples: Sequence[Mapping[str, Any]]) -> None:
    """TRL takes the format of a batch's first sample for that of all."""
    formats = {example["id"]: format_of(example) for example in examples}
    (first, expected), *others = formats.items()
    for name, found in others:
        if found != expected:
            raise DataError(
                f"a batch mixes formats: sample {first} has {expected}, sample {name} has {found}\n"
                "hint: write all datasets with images in one format"
            )


def format_of(columns: Mapping[str, Any]) -> str:
    """What TRL tells formats apart by, for messages: "prompt (list) + completion (list)"."""
    shown = {name: value for name, value in columns.items() if name not in ("id", "images")}
    return " + ".join(f"{name} ({type(value).__name__})" for name, value in shown.items())
