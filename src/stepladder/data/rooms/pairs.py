"""How many pairs of each kind the rooms' mixtures and their evaluation have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from stepladder.data.build.pairs import Pair, negatives, positives, spread
from stepladder.data.build.scene import TIERS, Scene
from stepladder.data.rooms.settings import RoomsError

EVAL_POSITIVES = EVAL_NEGATIVES = 20
_POSITIVES_AN_OBJECT = 4


def training_pairs(scenes: Sequence[Scene], rng: np.random.Generator) -> list[Pair]:
    """Four positives an object, and as many negatives: half of them tier A, a quarter each tier B and C.

    Fewer of a kind where the scenes do not have as many.
    """
    objects = sum(len(scene.views) for scene in scenes)
    chosen = spread(positives(scenes), _POSITIVES_AN_OBJECT * objects, rng)
    shares = {"tierA": len(chosen) // 2, "tierB": len(chosen) // 4, "tierC": len(chosen) // 4}
    candidates = negatives(scenes, 1, rng)
    return chosen + [pair for tier in TIERS for pair in spread(candidates[tier], shares[tier], rng)]


def eval_pairs(scenes: Sequence[Scene], rng: np.random.Generator) -> list[Pair]:
    """20 positives and 20 negatives (7 of tier A, 7 of tier B, 6 of tier C), spread over objects.

    Raises RoomsError when the scenes do not have that many.
    """
    chosen = spread(positives(scenes), EVAL_POSITIVES, rng)
    candidates = negatives(scenes, 1, rng)
    quota = {tier: len(range(place, EVAL_NEGATIVES, len(TIERS))) for place, tier in enumerate(TIERS)}
    chosen += [pair for tier in TIERS for pair in spread(candidates[tier], quota[tier], rng)]
    if len(chosen) < EVAL_POSITIVES + EVAL_NEGATIVES:
        found = Counter(pair.tier or "positive" for pair in chosen)
        raise RoomsError(
            f"the {len(scenes)} held-out scenes have too few pairs of views for evaluation: {dict(found)}, "
            f"expected {EVAL_POSITIVES} positives and {quota}",
            "use more scenes, larger images or another seed",
        )
    return chosen
