"""A model's answers to samples with images, decoded greedily in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl.data_utils import prepare_multimodal_messages

from stepladder.trainer.samples import Sample
from stepladder.trainer.tiles import limit_tiles, recorded_max_tiles


def load(path: str, max_tiles: int | None) -> tuple[Any, Any]:
    """The model, on a GPU if there is one, and its processor; None keeps the tiles the model was trained with.

    Raises:
        TilesError: `max_tiles` cannot be kept with this model.
    """
    model = AutoModelForImageTextToText.from_pretrained(path)
    processor = AutoProcessor.from_pretrained(path)
    limit_tiles(processor, model.config.model_type, recorded_max_tiles(processor) if max_tiles is None else max_tiles)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.to(device).eval(), processor


def answers(
    model: Any, processor: Any, samples: Sequence[Sample], batch_size: int, max_new_tokens: int
) -> Iterator[str]:
    """The model's answer to each sample, in order, without special tokens."""
    for start in range(0, len(samples), batch_size):
        yield from _answer_batch(model, processor, samples[start : start + batch_size], max_new_tokens)


@torch.inference_mode()
def _answer_batch(model: Any, processor: Any, samples: Sequence[Sample], max_new_tokens: int) -> list[str]:
    images = [[_open(path) for path in sample.images] for sample in samples]
    # The very function that shapes the prompt in training.
    prompts = [
        prepare_multimodal_messages(sample.columns["prompt"], images=own)
        for sample, own in zip(samples, images, strict=True)
    ]
    inputs = processor(
        images=images,
        text=processor.apply_chat_template(prompts, add_generation_prompt=True, tokenize=False),
        padding=True,
        padding_side="left",
        add_special_tokens=False,
        return_tensors="pt",
    ).to(model.device)
    generated = model.generate(**inputs, do_sample=False, max_new_tokens=max_new_tokens)
    texts: list[str] = processor.batch_decode(generated[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


def _open(path: str) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
