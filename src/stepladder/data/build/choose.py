"""From all views of a split to the samples: the size filter, then as many negatives of each tier as asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stepladder.data.build.pairs import Pair, negatives, positives, split_evenly, spread
from stepladder.data.build.scene import TIERS, Scene
from stepladder.data.build.settings import Settings

#: Views of other scenes drawn for each that is wanted in tier A, before the search ends: nearly sure to find all that
#: there are where there are no more than are wanted (it takes about n ln n draws to meet each of n).
_DRAWS = 16


@dataclass(frozen=True)
class Choice:
    """Attributes:
    pairs: what becomes samples, in their order.
    wanted: negatives asked for, by tier; `pairs` has fewer where there are not as many.
    counts: facts for the build's description.
    """

    pairs: list[Pair]
    wanted: dict[str, int]
    counts: dict[str, Any]


def choose(scenes: Sequence[Scene], settings: Settings) -> Choice:
    """The samples of a split: every positive of the views that pass the size filter, and negatives beside them.

    With P positives and a share s there are N = P s / (1 - s) negatives, rounded to the nearest whole number (half
    up); N is split by the ratio of tiers with the largest remainders first.
    """
    large, smallest = keep_largest(scenes, settings.top_area)
    rng = np.random.default_rng(settings.seed)
    pairs = [group[index] for group in positives(large) for index in range(len(group))]
    wanted = _wanted(len(pairs), settings)
    views = sum(len(found) for scene in large for found in scene.views.values())
    easy = 2 * math.ceil(wanted[TIERS[0]] / max(views, 1))
    candidates = negatives(large, easy, rng, _DRAWS)
    for tier in TIERS:
        pairs += spread(candidates[tier], wanted[tier], rng)
    counts = {
        "scenes": len(scenes),
        "objects": sum(len(scene.views) for scene in scenes),
        "views": sum(len(found) for scene in scenes for found in scene.views.values()),
        "views_used": views,
        "smallest_area_used": smallest,
    }
    return Choice([pairs[place] for place in rng.permutation(len(pairs))], wanted, counts)


def keep_largest(scenes: Sequence[Scene], share: float) -> tuple[list[Scene], int]:
    """The scenes with only the views of the largest masks, and the smallest area among them in pixels (0: none).

    `share` of all views of all scenes is kept, rounded to the nearest whole number (half up); among equal areas the
    first by scene, object and frame.
    """
    ranked = sorted(
        (-view.area, place, uid, frame_id)
        for place, scene in enumerate(scenes)
        for uid, views in scene.views.items()
        for frame_id, view in views.items()
    )
    kept = ranked[: math.floor(len(ranked) * share + 0.5)]
    names = {entry[1:] for entry in kept}
    large = [
        replace(
            scene,
            views={
                uid: {frame_id: view for frame_id, view in views.items() if (place, uid, frame_id) in names}
                for uid, views in scene.views.items()
            },
        )
        for place, scene in enumerate(scenes)
    ]
    return large, -kept[-1][0] if kept else 0


def _wanted(positive: int, settings: Settings) -> dict[str, int]:
    count = math.floor(positive * settings.negative_share / (1 - settings.negative_share) + 0.5)
    return dict(zip(TIERS, split_evenly(count, settings.negatives), strict=True))
