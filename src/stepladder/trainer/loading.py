"""What a trainer draws from: a data file, or the selection of a stage, and the order of its samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepladder.data.lengths import estimate, trained_order
from stepladder.data.samples import DataError, read_samples
from stepladder.data.selection import is_selection, read_selection
from stepladder.trainer.dataset import to_dataset
from stepladder.trainer.sampler import Order, named_order
from stepladder.trainer.selected import SelectedDataset
from stepladder_worker.windows import WindowedOrder


@dataclass(frozen=True)
class TrainingData:
    """Samples and their order.

    Attributes:
        dataset: a datasets.Dataset; its samples have `id`.
        length: samples of an epoch.
        order: the index into `dataset` at a position.
        at_access: text becomes tokens only when its batch is asked for; else TRL goes through all of it first.
    """

    dataset: Any
    length: int
    order: Order
    at_access: bool


def load_training(
    path: Path, *, seed: int, keep_messages: bool, use_depth: bool, length_window: int = 0
) -> TrainingData:
    """What there is to train on.

    Args:
        path: a data file, or a selection, which brings the seed of its own.
        seed: of a data file's order; its name is the order's.
        keep_messages: see `read_samples`.
        use_depth: see `load_images`.
        length_window: see `WindowedOrder`; 0 leaves the order as it is.

    Raises:
        DataError: see `read_samples`, `to_dataset`, `read_selection` and `SelectedDataset`.
    """
    if is_selection(path):
        selection = read_selection(path)
        selected = SelectedDataset(selection, keep_messages, use_depth)
        entry_at = trained_order(selection, length_window)
        return TrainingData(selected, selection.length, lambda p: selected.row_of(entry_at(p)), at_access=True)
    samples = read_samples(path, keep_messages)
    order: Order = named_order(seed, path.stem, len(samples))
    if length_window:
        lengths = [estimate(_characters(sample.columns), len(sample.images)) for sample in samples]
        order = WindowedOrder(
            seed, path.stem, len(samples), length_window, order, lambda rows: [lengths[row] for row in rows]
        ).at
    return TrainingData(to_dataset(samples, path, use_depth), len(samples), order, at_access=False)


def load_evaluation(path: Path | None, *, keep_messages: bool, use_depth: bool) -> Any:
    """The samples for `eval_strategy` as a datasets.Dataset; None without any.

    Raises:
        DataError: see `read_samples` and `to_dataset`; also a selection.
    """
    if path is None:
        return None
    if is_selection(path):
        raise DataError(
            f"eval_data {path} is a selection, expected a data file\nhint: `stepladder data export` writes one"
        )
    return to_dataset(read_samples(path, keep_messages), path, use_depth)


def _characters(columns: Mapping[str, Any]) -> int:
    """Characters of all turns of a sample."""
    return sum(len(text) for value in columns.values() for text in _texts(value))


def _texts(value: str | Sequence[Mapping[str, str]]) -> list[str]:
    return [value] if isinstance(value, str) else [turn["content"] for turn in value]
