"""Metrics of the pointing task, from answers alone; pure.

The task: point at an object in image B as ``[(x, y)]``, both in [0, 1] of the image, or answer ``NOT_VISIBLE``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

#: x and y in [0, 1] of image B, from its top left.
Point = tuple[float, float]

NOT_VISIBLE = "NOT_VISIBLE"

#: A point, NOT_VISIBLE, or None for text that is neither.
Answer = Point | str | None

#: Distances within which a point counts as found, in units of the image's sides.
THRESHOLDS = (0.02, 0.05, 0.10)

_NUMBER = r"(\d+(?:\.\d+)?)"
_POINT = re.compile(rf"\[\(\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\)\]")


@dataclass(frozen=True)
class Outcome:
    """One sample and its answer.

    Attributes:
        truth: the right answer, a point (a positive) or NOT_VISIBLE (a negative).
        predicted: the model's answer.
        on_mask: whether the predicted answer is a point on the object's mask; None where the sample has no mask.
    """

    truth: Answer
    predicted: Answer
    on_mask: bool | None = None


def parse_answer(text: str) -> Answer:
    """The answer a text gives, with nothing but blanks around it; None when it has no valid format."""
    text = text.strip()
    if text == NOT_VISIBLE:
        return NOT_VISIBLE
    match = _POINT.fullmatch(text)
    if match is None:
        return None
    x, y = float(match[1]), float(match[2])
    return (x, y) if x <= 1 and y <= 1 else None


def format_answer(answer: Answer) -> str:
    """The answer as a model would write it."""
    return f"[({answer[0]:.3f}, {answer[1]:.3f})]" if isinstance(answer, tuple) else str(answer)


def mean_point(answers: Sequence[Answer]) -> Point | None:
    """The mean of the points among the answers; None when there are none."""
    points = [answer for answer in answers if isinstance(answer, tuple)]
    if not points:
        return None
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


def metrics(outcomes: Sequence[Outcome]) -> dict[str, float | None]:
    """The figures by name; None where the outcomes hold nothing to measure.

    - ``not_visible_accuracy``: share of all samples where NOT_VISIBLE was answered exactly when it is right; text
      without a valid format is wrong.
    - ``valid_format``: share of all answers that are NOT_VISIBLE or a point inside the image.
    - ``mean_l2``: mean distance to the true point, in units of the image's sides (at most the square root of 2), over
      the positives that were answered with a point.
    - ``success_0.02``, ``success_0.05``, ``success_0.10``: share of all positives answered with a point within that
      distance.
    - ``hit_mask``: share of the positives with a mask that were answered with a point on it.
    - ``distinct_points``: distinct points among all answered points; near 0, the model has collapsed onto one answer.
    - ``score``: share of all samples answered right: NOT_VISIBLE, or a point within 0.10.
    """
    positives = [outcome for outcome in outcomes if isinstance(outcome.truth, tuple)]
    distances = [_distance(outcome) for outcome in positives]
    found = [distance for distance in distances if math.isfinite(distance)]
    points = [outcome.predicted for outcome in outcomes if isinstance(outcome.predicted, tuple)]
    masked = [outcome.on_mask for outcome in positives if outcome.on_mask is not None]
    refusals = [_refusal(outcome) for outcome in outcomes]
    right = [_right(outcome) for outcome in outcomes]
    return {
        "not_visible_accuracy": _share(refusals),
        "valid_format": _share([outcome.predicted is not None for outcome in outcomes]),
        "mean_l2": sum(found) / len(found) if found else None,
        **{f"success_{limit:.2f}": _share([distance <= limit for distance in distances]) for limit in THRESHOLDS},
        "hit_mask": _share(masked),
        "distinct_points": len(set(points)) / len(points) if points else None,
        "score": _share(right),
    }


def _distance(outcome: Outcome) -> float:
    """Between the true and the predicted point; infinite when either is none."""
    if isinstance(outcome.truth, tuple) and isinstance(outcome.predicted, tuple):
        return math.dist(outcome.truth, outcome.predicted)
    return math.inf


def _refusal(outcome: Outcome) -> bool:
    if outcome.predicted is None:
        return False
    return (outcome.predicted == NOT_VISIBLE) == (outcome.truth == NOT_VISIBLE)


def _right(outcome: Outcome) -> bool:
    if outcome.truth == NOT_VISIBLE:
        return outcome.predicted == NOT_VISIBLE
    return _distance(outcome) <= THRESHOLDS[-1]


def _share(facts: Sequence[bool]) -> float | None:
    return sum(facts) / len(facts) if facts else None
