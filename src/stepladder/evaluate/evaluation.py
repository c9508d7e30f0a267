"""One evaluation: samples, baselines and the model's answers to one result."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import track

from stepladder.evaluate import baselines
from stepladder.evaluate.baselines import Baseline
from stepladder.evaluate.errors import EvaluationError
from stepladder.evaluate.metrics import Figure, Outcome, format_answer, metrics, parse_answer, tiers
from stepladder.evaluate.table import table
from stepladder.evaluate.task import Task, outcome, read_tasks
from stepladder.evaluate.training_points import training_points

VERSION = 1


@dataclass(frozen=True)
class Options:
    """Attributes:
    model: folder or hub name.
    data: held-out samples: a data file or a `selection.json`.
    train_data: the same of the training samples, for the baseline of their mean point; None goes without it.
    max_tiles: tiles an image; None keeps what the model was trained with.
    share_tiles: `max_tiles` is what the images of a sample have together.
    use_depth: the depth maps are images as well, after the others.
    batch_size: samples answered at once.
    limit: samples to draw; None takes all.
    max_new_tokens: length of an answer in tokens.
    predictions: file for one JSON line a sample, or None.
    """

    model: str
    data: Path
    train_data: Path | None
    max_tiles: int | None
    share_tiles: bool
    use_depth: bool
    batch_size: int
    limit: int | None
    max_new_tokens: int
    predictions: Path | None


@dataclass(frozen=True)
class Result:
    """What an evaluation found."""

    model: str
    data: str
    samples: int
    metrics: dict[str, Figure]
    tiers: dict[str, Figure]
    baselines: list[Baseline]

    def to_json(self) -> dict[str, Any]:
        """The result as JSON values; `baseline` is the best one, `samples` what each metric rests on."""
        best = baselines.best(self.baselines)
        return {
            "version": VERSION,
            "kind": "evaluation",
            "model": self.model,
            "data": self.data,
            "n": self.samples,
            "metrics": _values(self.metrics),
            "samples": {name: figure.samples for name, figure in self.metrics.items()},
            "tiers": _tiers(self.tiers),
            "baseline": {
                "name": best.name,
                "answer": _answer(best),
                **_values(best.metrics),
                "tiers": _tiers(best.tiers),
            },
            "baselines": {
                other.name: {
                    "answer": _answer(other),
                    "metrics": _values(other.metrics),
                    "tiers": _tiers(other.tiers),
                }
                for other in self.baselines
            },
        }

    def to_table(self) -> str:
        """The result for people."""
        return table(f"{self.samples} samples of {self.data}", self.metrics, self.tiers, self.baselines)


def evaluate(options: Options) -> Result:
    """Have the model answer every sample and measure its answers.

    Raises:
        DataError: samples that cannot be used; known before the model is loaded, but for images that cannot be decoded.
        EvaluationError: a model or a file that cannot be used, or too little memory.
        TilesError: `max_tiles` cannot be kept with this model.
    """
    tasks = read_tasks(options.data, options.limit)
    blind = baselines.baselines(tasks, [] if options.train_data is None else training_points(options.train_data))
    outcomes = []
    with _predictions(options.predictions) as file:
        for task, text in zip(tasks, _answers(options, tasks), strict=True):
            outcomes.append(outcome(task, parse_answer(text)))
            if file is not None:
                file.write(json.dumps(_prediction(task, text, outcomes[-1])) + "\n")
                file.flush()
    return Result(options.model, str(options.data), len(tasks), metrics(outcomes), tiers(outcomes), blind)


def _answers(options: Options, tasks: Sequence[Task]) -> Iterator[str]:
    from stepladder.evaluate import generate  # torch and transformers, which take seconds: input is checked first

    model, processor = generate.load(options.model, options.max_tiles, options.share_tiles)
    samples = [task.sample for task in tasks]
    how = (options.batch_size, options.max_new_tokens, options.use_depth)
    answers = generate.answers(model, processor, samples, *how)
    console = Console(stderr=True)
    return iter(track(answers, "answering", total=len(tasks), console=console, disable=not console.is_terminal))


@contextmanager
def _predictions(path: Path | None) -> Iterator[IO[str] | None]:
    """The file to write predictions into: NAME.partial while answers come, so what was answered outlives a crash."""
    if path is None:
        yield None
        return
    partial = path.with_name(f"{path.name}.partial")
    try:
        file = partial.open("w", encoding="utf-8")
    except OSError as error:
        raise EvaluationError(
            f"predictions cannot be written to {path}: {error.strerror}\nhint: name a file in a folder that exists"
        ) from None
    with file:
        yield file
    partial.replace(path)


def _prediction(task: Task, text: str, found: Outcome) -> dict[str, Any]:
    positive = isinstance(found.predicted, tuple) and isinstance(found.truth, tuple)
    return {
        "id": task.sample.id,
        "tier": found.tier,
        "truth": found.truth,
        "text": text,
        "predicted": found.predicted,
        "right": found.right,
        "distance": found.distance if positive else None,
        "on_mask": found.on_mask,
    }


def _values(figures: Mapping[str, Figure]) -> dict[str, float | None]:
    return {name: figure.value for name, figure in figures.items()}


def _tiers(figures: Mapping[str, Figure]) -> dict[str, dict[str, float | int | None]]:
    return {name: {"n": figure.samples, "accuracy": figure.value} for name, figure in figures.items()}


def _answer(baseline: Baseline) -> str | None:
    return None if baseline.answer is None else format_answer(baseline.answer)
