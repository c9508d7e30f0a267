"""What answers without looking at the images are worth: a model that has learnt to see is better than all of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from stepladder.data.answers import NOT_VISIBLE, Point
from stepladder.evaluate.metrics import Answer, Figure, Outcome, metrics, tiers
from stepladder.evaluate.task import Task, outcome

#: Answers that the random baseline is the mean over, at least; each sample gets equally many.
DRAWS = 4000


@dataclass(frozen=True)
class Baseline:
    """A way to answer blindly, and what it is worth.

    Attributes:
        name: "NOT_VISIBLE", "mean point" or "random point".
        answer: the one answer that it always gives; None where it draws one.
        metrics: see `metrics.metrics`.
        tiers: see `metrics.tiers`.
    """

    name: str
    answer: Answer
    metrics: dict[str, Figure]
    tiers: dict[str, Figure]


def baselines(tasks: Sequence[Task], training_points: Sequence[Point]) -> list[Baseline]:
    """Always NOT_VISIBLE; always the mean of the points of the training data, where there are any; a random point.

    The last is the mean over many points drawn evenly from the image, the same ones every time.
    """
    found = [_constant("NOT_VISIBLE", NOT_VISIBLE, tasks)]
    if training_points:
        found.append(_constant("mean point", _mean(training_points), tasks))
    outcomes = _random_outcomes(tasks)
    times = len(outcomes) // len(tasks)
    found.append(Baseline("random point", None, _once(metrics(outcomes), times), _once(tiers(outcomes), times)))
    return found


def best(candidates: Sequence[Baseline]) -> Baseline:
    """The one with the highest score, the first of equals."""
    return max(candidates, key=lambda baseline: baseline.metrics["score"].value or 0.0)


def _constant(name: str, answer: Answer, tasks: Sequence[Task]) -> Baseline:
    outcomes = [outcome(task, answer) for task in tasks]
    return Baseline(name, answer, metrics(outcomes), tiers(outcomes))


def _mean(points: Sequence[Point]) -> Point:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


def _random_outcomes(tasks: Sequence[Task]) -> list[Outcome]:
    draw = random.Random(0)
    times = -(-DRAWS // len(tasks))
    return [outcome(task, (draw.random(), draw.random())) for task in tasks for _ in range(times)]


def _once(figures: dict[str, Figure], times: int) -> dict[str, Figure]:
    """The figures of samples that were answered `times` times each, as resting on each sample once."""
    return {name: Figure(figure.value, figure.samples // times) for name, figure in figures.items()}
