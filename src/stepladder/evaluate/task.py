"""Samples of the pointing task: the right answer of each, its mask, and what a given answer is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from stepladder.evaluate.metrics import NOT_VISIBLE, Answer, Outcome, Point, mean_point, metrics, parse_answer
from stepladder.trainer.samples import DataError, Sample, read_samples


@dataclass(frozen=True)
class Task:
    """One sample, its right answer, and the mask image of its object in image B (None: not given)."""

    sample: Sample
    truth: Answer
    mask: Path | None


def read_tasks(path: Path) -> list[Task]:
    """The samples of a data file as tasks; mask paths (`meta.mask_b`) are relative to the file's folder.

    Raises:
        DataError: see `read_samples`; also an answer that is neither a point nor NOT_VISIBLE, or a missing mask.
    """
    return [_task(sample, path.parent) for sample in read_samples(path)]


def outcome(task: Task, predicted: Answer) -> Outcome:
    """What an answer to a task is worth; reads the mask where there is one and a point to look up."""
    if task.mask is None:
        return Outcome(task.truth, predicted)
    return Outcome(task.truth, predicted, isinstance(predicted, tuple) and on_mask(task.mask, predicted))


def on_mask(mask: Path, point: Point) -> bool:
    """Whether the pixel at `point` is set; x is counted in [0, width - 1], y in [0, height - 1], as in the data."""
    with Image.open(mask) as image:
        x, y = round(point[0] * (image.width - 1)), round(point[1] * (image.height - 1))
        return bool(image.convert("L").getpixel((x, y)))


def constant_baseline(tasks: Sequence[Task], train: Path | None) -> tuple[Answer, dict[str, float | None]]:
    """The constant answer with the higher score, and its metrics: always NOT_VISIBLE, or always one point.

    The point is the mean of the true points in the training file; without one, NOT_VISIBLE is the only candidate.
    """
    candidates: list[Answer] = [NOT_VISIBLE]
    point = None if train is None else mean_point([_task(sample, train.parent).truth for sample in read_samples(train)])
    if point is not None:
        candidates.append(point)
    scored = [(answer, metrics([outcome(task, answer) for task in tasks])) for answer in candidates]
    return max(scored, key=lambda pair: pair[1]["score"] or 0.0)


def _task(sample: Sample, folder: Path) -> Task:
    completion = sample.columns.get("completion")
    if not isinstance(completion, list):
        raise DataError(f"sample {sample.id} is no conversation\nhint: evaluation needs questions about images")
    truth = parse_answer(completion[-1]["content"])
    if truth is None:
        raise DataError(
            f"sample {sample.id}: expected the answer [(x, y)] in [0, 1] or {NOT_VISIBLE}, found "
            f"{completion[-1]['content']!r}\nhint: evaluate on samples of the pointing task"
        )
    name = sample.meta.get("mask_b")
    mask = folder / name if name and isinstance(truth, tuple) else None
    if mask is not None and not mask.is_file():
        raise DataError(f"sample {sample.id}: mask {mask} not found\nhint: meta.mask_b is relative to the data file")
    return Task(sample, truth, mask)
