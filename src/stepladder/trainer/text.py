"""Text becomes tokens when a batch asks for it, in the data workers: nothing goes through millions of samples first.

The tokens and labels are those that TRL's SFTTrainer prepares for a whole dataset at the start (version 1.16).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from trl.data_utils import common_prefix_length, prepare_multimodal_messages

from stepladder.trainer.lengths import UNTRAINED, Collator, check_sample


class TextCollator:
    """Tokenizes the samples of a batch, checks each, and hands them to TRL's collator.

    Args:
        collate: TRL's collator for `input_ids` and `labels`.
        processing: tokenizer, or processor of a model for images and text.
        template: chat template to use instead of `processing`'s own; None for that.
        completion_only: of a prompt and its completion, only the completion is trained.
        assistant_only: only the turns of the assistant are trained.
        limit: see `check_sample`.
    """

    def __init__(
        self,
        collate: Collator,
        processing: Any,
        template: str | None,
        completion_only: bool,
        assistant_only: bool,
        limit: int | None,
    ) -> None:
        self._collate = collate
        self._processing, self._template = processing, template
        self._completion_only, self._assistant_only = completion_only, assistant_only
        self._limit = limit

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> Mapping[str, Tensor]:
        tokenized = [self.tokenize(example) for example in examples]
        for example, tokens in zip(examples, tokenized, strict=True):
            trained = sum(label != UNTRAINED for label in tokens["labels"])
            check_sample(example["id"], len(tokens["input_ids"]), trained, self._limit)
        return self._collate(tokenized)

    def tokenize(self, example: Mapping[str, Any]) -> dict[str, list[int]]:
        """`input_ids` and `labels` of one sample: {"prompt", "completion"}, {"messages"} or {"text"}."""
        if "prompt" in example:
            return self._prompt_completion(example["prompt"], example["completion"])
        tokens = self._tokens(example["messages"] if "messages" in example else self._ended(example["text"]))
        return _labelled(tokens["input_ids"], tokens.get("assistant_masks"))

    def _prompt_completion(self, prompt: Any, completion: Any) -> dict[str, list[int]]:
        if isinstance(prompt, str):
            before, tokens = self._tokens(prompt), self._tokens(prompt + self._ended(completion))
        else:
            before, tokens = self._tokens(prompt, add_generation_prompt=True), self._tokens(prompt + completion)
        ids = tokens["input_ids"]
        # Where both diverge: tokens may merge across the boundary.
        untrained = common_prefix_length(before["input_ids"], ids) if self._completion_only else 0
        mask = [0] * untrained + [1] * (len(ids) - untrained)
        return _labelled(ids, mask, tokens.get("assistant_masks"))

    def _ended(self, text: str) -> str:
        """The text with the token that ends one, so that a model learns to stop."""
        end = getattr(self._processing, "tokenizer", self._processing).eos_token
        return text if text.endswith(end) else text + end

    def _tokens(self, text: Any, add_generation_prompt: bool = False) -> Mapping[str, list[int]]:
        """Tokens of plain text or of turns; processors return a batch of one."""
        batched = hasattr(self._processing, "tokenizer")
        if isinstance(text, str):
            found = self._processing(text=text)
        else:
            found = self._processing.apply_chat_template(
                prepare_multimodal_messages(text) if batched else text,
                chat_template=self._template,
                tokenize=True,
                return_dict=True,
                add_generation_prompt=add_generation_prompt,
                return_assistant_tokens_mask=self._assistant_only and not add_generation_prompt,
            )
        return {key: values[0] for key, values in found.items()} if batched else found


def _labelled(ids: list[int], *masks: list[int] | None) -> dict[str, list[int]]:
    """Labels where every mask that is there has a 1."""
    used = [mask for mask in masks if mask is not None]
    labels = [token if all(bits) else UNTRAINED for token, *bits in zip(ids, *used, strict=True)]
    return {"input_ids": list(ids), "labels": labels}
