"""A model's answers to samples with images, decoded greedily in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl.data_utils import prepare_multimodal_messages

from stepladder.data.samples import Sample
from stepladder.evaluate.errors import EvaluationError
from stepladder.trainer.images import load_images
from stepladder.trainer.tiles import limit_tiles, recorded_max_tiles, recorded_share_tiles


def load(path: str, max_tiles: int | None, share_tiles: bool = False) -> tuple[Any, Any]:
    """The model, on a GPU if there is one, and its processor; None keeps the tiles the model was trained with.

    `share_tiles` is what `stepladder.trainer.tiles.limit_tiles` calls `share`.

    Raises:
        EvaluationError: there is no model for images and text.
        TilesError: `max_tiles` cannot be kept with this model.
    """
    try:
        model = AutoModelForImageTextToText.from_pretrained(path)
        processor = AutoProcessor.from_pretrained(path)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise EvaluationError(_trouble(path, error)) from None
    tiles = (max_tiles, share_tiles)
    if max_tiles is None:
        tiles = (recorded_max_tiles(processor), share_tiles or recorded_share_tiles(processor))
    limit_tiles(processor, model.config.model_type, *tiles)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.to(device).eval(), processor


def answers(
    model: Any, processor: Any, samples: Sequence[Sample], batch_size: int, max_new_tokens: int, use_depth: bool = False
) -> Iterator[str]:
    """The model's answer to each sample, in order, without special tokens; the same whatever the batch size.

    Raises:
        DataError: an image that cannot be decoded.
        EvaluationError: a batch that does not fit into memory.
    """
    for start in range(0, len(samples), batch_size):
        try:
            inputs = encode(processor, samples[start : start + batch_size], use_depth)
            yield from decode(model, processor, inputs, max_new_tokens)
        except torch.OutOfMemoryError as error:
            text = f"out of memory at a batch of {batch_size} samples: {error}"
            raise EvaluationError(f"{text}\nhint: lower --batch-size or --max-tiles") from None


def encode(processor: Any, samples: Sequence[Sample], use_depth: bool = False, padding_side: str = "left") -> Any:
    """The questions of some samples as inputs of the model, padded to the longest.

    On the left, so that every answer goes on right after its own question.
    """
    images = [load_images(sample, use_depth) for sample in samples]
    # The very function that shapes the prompt in training.
    prompts = [
        prepare_multimodal_messages(sample.columns["prompt"], images=own)
        for sample, own in zip(samples, images, strict=True)
    ]
    return processor(
        images=images,
        text=processor.apply_chat_template(prompts, add_generation_prompt=True, tokenize=False),
        padding=True,
        padding_side=padding_side,
        add_special_tokens=False,
        return_tensors="pt",
    )


@torch.inference_mode()
def decode(model: Any, processor: Any, inputs: Any, max_new_tokens: int) -> list[str]:
    """What the model says to encoded questions, word by likeliest word."""
    generated = model.generate(**inputs.to(model.device), do_sample=False, max_new_tokens=max_new_tokens)
    texts: list[str] = processor.batch_decode(generated[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


def _trouble(path: str, error: Exception) -> str:
    folder = Path(path)
    if not folder.is_dir() and (path.startswith((".", "/", "~")) or path.count("/") != 1):
        return (
            f"no directory {path}, expected a model\nhint: give the folder of a finished stage, or a model of the hub"
        )
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"model {path} cannot be loaded: {first}\nhint: it must be a model for images and text, with its processor"
