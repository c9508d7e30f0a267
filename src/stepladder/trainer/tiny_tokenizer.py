"""A small byte-level BPE tokenizer, trained on the spot; digits stay single so that coordinates can be learned."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

#: Tokens of the text as such: padding, start of a text, end of a turn (which also ends a text).
PAD, BOS, EOS = "<pad>", "<|im_start|>", "<end_of_utterance>"

#: Tokens that Idefics3's processor writes around and in place of the tiles of an image.
IMAGE_TOKENS = (
    "<fake_token_around_image>",
    "<image>",
    "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
)

VOCABULARY = 1024

#: What the tokenizer learns from when no text is given: the words of pointing tasks.
DEFAULT_TEXT = """\
User: The object is marked in the first image. Point at the same object in the second image.
Answer with one point [(x, y)], both between 0 and 1, or NOT_VISIBLE if the object cannot be seen there.
Assistant: [(0.412, 0.377)]
User: Where is the red box of image A in image B? Give its normalized coordinates, or say NOT_VISIBLE.
Assistant: NOT_VISIBLE
"""

#: SmolVLM's template, without its line break after the end of a turn: that would be one more token to train.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ message['role'] | capitalize }}:"
    "{% if message['content'] is string %}{{ ' ' + message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>' }}{% else %}{{ ' ' + part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<end_of_utterance>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[Path], max_length: int, image_tokens: bool) -> Any:
    """A PreTrainedTokenizerFast trained on the files' text, or on DEFAULT_TEXT when there are none.

    Args:
        texts: UTF-8 files; their order does not matter to the result, their bytes do.
        max_length: tokens the model can take (`model_max_length`).
        image_tokens: whether Idefics3's image tokens are part of the vocabulary.
    """
    special = [PAD, BOS, EOS, *(IMAGE_TOKENS if image_tokens else ())]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    contents = [path.read_text("utf-8") for path in texts] or [DEFAULT_TEXT]
    tokenizer.train_from_iterator((line for content in contents for line in content.splitlines(True)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        extra_special_tokens=list(IMAGE_TOKENS) if image_tokens else [],
        model_max_length=max_length,
        chat_template=CHAT_TEMPLATE,
    )
