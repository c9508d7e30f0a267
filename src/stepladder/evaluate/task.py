"""Samples of the pointing task: the right answer of each, its mask, and what a given answer is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from PIL import Image

from stepladder.data.answers import EXPECTED, Point
from stepladder.data.samples import DataError, Sample, leaves, read_samples
from stepladder.data.selection import Selection, is_selection, read_selection
from stepladder.data.true_paths import file_within
from stepladder.evaluate.metrics import Answer, Outcome, parse_answer
from stepladder.evaluate.selected import drawn_positions
from stepladder_worker.order import EpochOrder

#: Of a selection `limit` is drawn from this many times as many samples: more than that is not read to draw a few.
_LOOKED_AT = 20

#: Finds a file by the name that a sample gives it; None where there is none, or it may not be opened.
_Find = Callable[[str], str | None]

_OTHER_TASK = "hint: evaluate on samples of the pointing task"


@dataclass(frozen=True)
class Task:
    """One sample, its right answer, and the mask image of its object in image B (None: not given)."""

    sample: Sample
    truth: Answer
    mask: Path | None


def read_tasks(path: Path, limit: int | None = None) -> list[Task]:
    """The samples of a data file or a selection as tasks, in their order.

    Args:
        path: a data file, or a selection's folder or `selection.json`. Masks (`meta.mask_b`) are relative to the
            folder that images are relative to.
        limit: how many to draw of more; None takes all.

    Raises:
        DataError: see `read_samples` and `read_selection`; also an answer that is neither a point nor NOT_VISIBLE, a
            sample without images, or a missing mask.
    """
    samples: Iterable[tuple[Sample, _Find]]
    if is_selection(path):
        samples = _of_selection(read_selection(path), limit)
    else:
        samples = ((sample, partial(_file, path.parent)) for sample in read_samples(path))
    return drawn([_task(sample, find) for sample, find in samples], limit)


def drawn(tasks: list[Task], limit: int | None) -> list[Task]:
    """`limit` of the tasks, in their own order: of each tier its share, and the same ones every time.

    A smaller draw is part of a larger one.
    """
    if limit is None or limit >= len(tasks):
        return tasks
    tiers = [outcome(task, None).tier for task in tasks]
    sizes, before = Counter(tiers), Counter[str]()
    turns = []
    for place in EpochOrder(0, "evaluation", len(tasks), 0):
        tier = tiers[place]
        # The k-th of n of a tier comes after (k + 1/2) / n of all: so every tier is spread evenly over the draw.
        turns.append(((before[tier] + 0.5) / sizes[tier], place))
        before[tier] += 1
    return [tasks[place] for place in sorted(place for _, place in sorted(turns)[:limit])]


def outcome(task: Task, predicted: Answer) -> Outcome:
    """What an answer to a task is worth; reads the mask where there is one and a point to look up."""
    neg_type = task.sample.meta.get("neg_type")
    hit = None if task.mask is None else isinstance(predicted, tuple) and on_mask(task.mask, predicted)
    return Outcome(task.truth, predicted, hit, neg_type if isinstance(neg_type, str) else None)


def on_mask(mask: Path, point: Point) -> bool:
    """Whether the pixel at `point` is set; x is counted in [0, width - 1], y in [0, height - 1], as in the data."""
    image = _grey(mask)
    x, y = round(point[0] * (image.width - 1)), round(point[1] * (image.height - 1))
    return bool(image.getpixel((x, y)))


@lru_cache(maxsize=1)  # a baseline asks for many points of one mask after the other
def _grey(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("L")
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"mask {path} cannot be decoded: {error}\nhint: write the mask anew") from None


def _file(folder: Path, name: str) -> str | None:
    """A file that a data file names; one outside its folder must be named absolutely, as `data export` does."""
    path = folder / name
    return str(path) if not leaves(name) and path.is_file() else None


def _of_selection(selection: Selection, limit: int | None) -> Iterator[tuple[Sample, _Find]]:
    """Samples of an epoch, or of what a limited draw looks at; nothing outside their dataset's folder is opened."""
    most = selection.length if limit is None else limit * _LOOKED_AT
    for position in drawn_positions(selection, most):
        part, row = selection.at(position)
        yield part.store.sample(row), partial(file_within, str(part.store.folder))


def _task(sample: Sample, find: _Find) -> Task:
    completion = sample.columns.get("completion")
    if not isinstance(completion, list) or not (sample.images or sample.embedded):
        raise DataError(f"sample {sample.id} asks nothing about images\n{_OTHER_TASK}")
    text = completion[-1]["content"]
    truth = parse_answer(text)
    if truth is None:
        raise DataError(f"sample {sample.id}: expected the answer {EXPECTED}, found {text!r}\n{_OTHER_TASK}")
    name = sample.meta.get("mask_b")
    if not isinstance(name, str) or not name or not isinstance(truth, tuple):
        return Task(sample, truth, None)
    mask = find(name)
    if mask is None:
        hint = "meta.mask_b is relative to the data file, whose folder it must not leave"
        raise DataError(f"sample {sample.id}: mask {name} not found in the data's folder\nhint: {hint}")
    return Task(sample, truth, Path(mask))
