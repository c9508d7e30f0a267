"""Metrics of the pointing task, from answers alone; pure.

The task: point at an object in image B as ``[(x, y)]``, both in [0, 1] of the image, or answer ``NOT_VISIBLE``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stepladder.data.answers import NOT_VISIBLE, Point, inside, read_answer

#: A point inside the image, NOT_VISIBLE, or None for text that is neither.
Answer = Point | str | None

#: Distances within which a point counts as found, in units of the image's sides.
THRESHOLDS = (0.02, 0.05, 0.10)

#: What binary numbers lose: from 0.3 to 0.4 is 0.1, and a little more.
ROUNDING = 1e-9

#: Tier of the samples whose object can be seen, and of the others where the sample does not name one.
POSITIVES, NEGATIVES = "positives", "negatives"


@dataclass(frozen=True)
class Outcome:
    """One sample and its answer.

    Attributes:
        truth: the right answer, a point (a positive) or NOT_VISIBLE (a negative).
        predicted: the model's answer.
        on_mask: whether the predicted answer is a point on the object's mask; None where the sample has no mask.
        neg_type: the tier of a negative as the sample names it, None where it does not.
    """

    truth: Answer
    predicted: Answer
    on_mask: bool | None = None
    neg_type: str | None = None

    @property
    def tier(self) -> str:
        """Positives, or the kind of negative."""
        return POSITIVES if isinstance(self.truth, tuple) else self.neg_type or NEGATIVES

    @property
    def distance(self) -> float:
        """Between the true and the predicted point, in units of the image's sides; infinite when either is none."""
        if isinstance(self.truth, tuple) and isinstance(self.predicted, tuple):
            return math.dist(self.truth, self.predicted)
        return math.inf

    def within(self, limit: float) -> bool:
        """Whether the predicted point is at most that far from the true one."""
        return self.distance <= limit + ROUNDING

    @property
    def right(self) -> bool:
        """NOT_VISIBLE where that is true, or a point within the largest of the distances."""
        if self.truth == NOT_VISIBLE:
            return self.predicted == NOT_VISIBLE
        return self.within(THRESHOLDS[-1])


@dataclass(frozen=True)
class Figure:
    """A metric.

    Attributes:
        value: None where there is nothing to measure.
        samples: how many samples it rests on.
    """

    value: float | None
    samples: int


def parse_answer(text: str) -> Answer:
    """The answer a text gives, with nothing but blanks around it; None when it has no valid format."""
    answer = read_answer(text)
    return None if isinstance(answer, tuple) and not inside(answer) else answer


def format_answer(answer: Answer) -> str:
    """The answer as a model would write it."""
    return f"[({answer[0]:.3f}, {answer[1]:.3f})]" if isinstance(answer, tuple) else str(answer)


def metrics(outcomes: Sequence[Outcome]) -> dict[str, Figure]:
    """The figures by name.

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
    distances = [outcome.distance for outcome in positives]
    found = [distance for distance in distances if math.isfinite(distance)]
    points = [outcome.predicted for outcome in outcomes if isinstance(outcome.predicted, tuple)]
    masked = [outcome.on_mask for outcome in positives if outcome.on_mask is not None]
    return {
        "not_visible_accuracy": _share([_refusal(outcome) for outcome in outcomes]),
        "valid_format": _share([outcome.predicted is not None for outcome in outcomes]),
        "mean_l2": _ratio(sum(found), len(found)),
        **{f"success_{limit:.2f}": _share([outcome.within(limit) for outcome in positives]) for limit in THRESHOLDS},
        "hit_mask": _share(masked),
        "distinct_points": _ratio(len(set(points)), len(points)),
        "score": _share([outcome.right for outcome in outcomes]),
    }


def tiers(outcomes: Sequence[Outcome]) -> dict[str, Figure]:
    """Share of the samples answered right by tier: positives first, then the kinds of negatives by name."""
    names = sorted({outcome.tier for outcome in outcomes}, key=lambda name: (name != POSITIVES, name))
    return {name: _share([outcome.right for outcome in outcomes if outcome.tier == name]) for name in names}


def _refusal(outcome: Outcome) -> bool:
    if outcome.predicted is None:
        return False
    return (outcome.predicted == NOT_VISIBLE) == (outcome.truth == NOT_VISIBLE)


def _share(facts: Sequence[bool]) -> Figure:
    return _ratio(sum(facts), len(facts))


def _ratio(amount: float, samples: int) -> Figure:
    return Figure(amount / samples if samples else None, samples)
