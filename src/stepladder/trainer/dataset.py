"""Samples of a data file as a datasets.Dataset that decodes an image only when a batch asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from stepladder.data.samples import DataError, Sample
from stepladder.trainer.images import load_images
from stepladder.trainer.lengths import format_of

#: What a dataset keeps of a sample beside what TRL trains on; `_Decode` makes "images" of all but the id.
_FILES = ("images", "depth")


def to_dataset(samples: Sequence[Sample], path: Path, use_depth: bool) -> Any:
    """The file's samples with the columns `id`, those that TRL trains on, and `images` where there are any.

    Memory holds text and paths; pixels are read at access and let go with the batch.

    Raises:
        DataError: a file that mixes formats. At access: see `load_images`.
    """
    _check_uniform(samples, path)
    dataset = Dataset.from_list([{"id": sample.id, **sample.columns} for sample in samples])
    if use_depth or any(sample.images for sample in samples):
        for name in _FILES:
            dataset = dataset.add_column(name, [list(getattr(sample, name)) for sample in samples])
        dataset = dataset.with_transform(_Decode(use_depth))
    return dataset


def image_sizes(dataset: Any, row: int) -> list[tuple[int, int]]:
    """(width, height) in pixels of the images of one sample; [] for text."""
    return [image.size for image in dataset[row].get("images", [])]


class _Decode:
    """Opens the files of a batch of samples, as a transform of a datasets.Dataset."""

    def __init__(self, use_depth: bool) -> None:
        self._use_depth = use_depth

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
        files = zip(batch["id"], *(batch[name] for name in _FILES), strict=True)
        samples = [Sample(name, {}, tuple(images), {}, tuple(depth)) for name, images, depth in files]
        columns = {name: values for name, values in batch.items() if name not in _FILES}
        return {**columns, "images": [load_images(sample, self._use_depth) for sample in samples]}


def _check_uniform(samples: Sequence[Sample], path: Path) -> None:
    first = samples[0]
    for sample in samples:
        if format_of(sample.columns) != format_of(first.columns):
            raise DataError(
                f"{path} mixes formats: sample {first.id} has {format_of(first.columns)}, sample {sample.id} has "
                f"{format_of(sample.columns)}\nhint: write the file in one format"
            )
