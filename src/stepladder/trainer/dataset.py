"""Samples as a datasets.Dataset that decodes an image only when a batch asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, Image, List

from stepladder.trainer.samples import DataError, Sample, read_samples


def load_dataset(path: Path, keep_messages: bool) -> Any:
    """The file's samples with the columns `id`, those that TRL trains on, and `images` where there are any.

    Memory holds text and paths; pixels are read at access and let go with the batch.

    Raises:
        DataError: see `read_samples`; also a file that mixes formats.
    """
    samples = read_samples(path, keep_messages)
    _check_uniform(samples, path)
    dataset = Dataset.from_list([{"id": sample.id, **sample.columns} for sample in samples])
    if any(sample.images for sample in samples):
        dataset = dataset.add_column("images", [list(sample.images) for sample in samples])
        dataset = dataset.cast_column("images", List(Image(mode="RGB")))
    return dataset


def image_sizes(dataset: Any, index: int) -> list[tuple[int, int]]:
    """(width, height) in pixels of the images of one sample; [] for text."""
    return [image.size for image in dataset[index].get("images", [])]


def _check_uniform(samples: Sequence[Sample], path: Path) -> None:
    first = samples[0]
    for sample in samples:
        if _format(sample) != _format(first):
            raise DataError(
                f"{path} mixes formats: sample {first.id} has {_format(first)}, sample {sample.id} has "
                f"{_format(sample)}\nhint: write the file in one format"
            )


def _format(sample: Sample) -> str:
    return " + ".join(f"{name} ({type(value).__name__})" for name, value in sample.columns.items())
