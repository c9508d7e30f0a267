"""Which view is paired with which: the positives and the three tiers of negatives.

The object is marked in image A, always one of its own views. In image B a positive shows it, as another of its own
views; in a negative it fills not one pixel:

- tierA: B is a view from another scene, one that shows nothing of the same label;
- tierB: B is a view of another object of the same scene and looks elsewhere;
- tierC: B is a frame of the same scene that looks towards the object (within `TOWARDS` of it), which is hidden behind
  something or just out of view.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from stepladder.data.rooms.layout import SceneRecord
from stepladder.data.rooms.settings import RoomsError

TIERS = ("tierA", "tierB", "tierC")

#: A frame whose optical axis passes an object at less than this angle looks towards it: the camera's half field of
#: view and 20 degrees.
TOWARDS = math.radians(52.5)

EVAL_POSITIVES = EVAL_NEGATIVES = 20
_POSITIVES_AN_OBJECT = 4

T = TypeVar("T")


@dataclass(frozen=True)
class Pair:
    """Attributes:
    a: the scene of image A.
    uid: the object marked in A.
    frame_a: frame of image A.
    b: the scene of image B.
    frame_b: frame of image B.
    tier: None for a positive, else one of `TIERS`.
    """

    a: SceneRecord
    uid: int
    frame_a: str
    b: SceneRecord
    frame_b: str
    tier: str | None

    @property
    def object_key(self) -> tuple[str, int]:
        return self.a.scene_id, self.uid


def training_pairs(scenes: Sequence[SceneRecord], rng: np.random.Generator) -> list[Pair]:
    """Four positives an object, and as many negatives: half of them tier A, a quarter each tier B and C.

    Fewer of a kind where the scenes do not have as many.
    """
    objects = sum(len(scene.views) for scene in scenes)
    positives = _spread(_positives(scenes), _POSITIVES_AN_OBJECT * objects, rng)
    shares = {"tierA": len(positives) // 2, "tierB": len(positives) // 4, "tierC": len(positives) // 4}
    negatives = _negatives(scenes, rng)
    return positives + [pair for tier in TIERS for pair in _spread(negatives[tier], shares[tier], rng)]


def eval_pairs(scenes: Sequence[SceneRecord], rng: np.random.Generator) -> list[Pair]:
    """20 positives and 20 negatives (7 of tier A, 7 of tier B, 6 of tier C), spread over objects.

    Raises RoomsError when the scenes do not have that many.
    """
    positives = _spread(_positives(scenes), EVAL_POSITIVES, rng)
    negatives = _negatives(scenes, rng)
    quota = {tier: len(range(place, EVAL_NEGATIVES, len(TIERS))) for place, tier in enumerate(TIERS)}
    chosen = positives + [pair for tier in TIERS for pair in _spread(negatives[tier], quota[tier], rng)]
    if len(chosen) < EVAL_POSITIVES + EVAL_NEGATIVES:
        found = Counter(pair.tier or "positive" for pair in chosen)
        raise RoomsError(
            f"the {len(scenes)} held-out scenes have too few pairs of views for evaluation: {dict(found)}, "
            f"expected {EVAL_POSITIVES} positives and {quota}",
            "use more scenes, larger images or another seed",
        )
    return chosen


def _positives(scenes: Sequence[SceneRecord]) -> list[Pair]:
    return [
        Pair(scene, uid, frame_a, scene, frame_b, None)
        for scene in scenes
        for uid, views in scene.views.items()
        for frame_a in views
        for frame_b in views
        if frame_a != frame_b
    ]


def _negatives(scenes: Sequence[SceneRecord], rng: np.random.Generator) -> dict[str, list[Pair]]:
    """All candidates of tiers B and C; of tier A one for each view that can be marked."""
    pairs: dict[str, list[Pair]] = {tier: [] for tier in TIERS}
    for scene in scenes:
        others = [other for other in scenes if other is not scene]
        for uid, views in scene.views.items():
            absent = _absent(scene, uid)
            for frame_a in views:
                pairs["tierA"] += _elsewhere(scene, uid, frame_a, others, rng)
                for frame_b, tier in absent.items():
                    pairs[tier].append(Pair(scene, uid, frame_a, scene, frame_b, tier))
    return pairs


def _absent(scene: SceneRecord, uid: int) -> dict[str, str]:
    """Frames of the same scene without any pixel of the object -> their tier."""
    of_others = {frame for views in scene.views.values() for frame in views}
    tiers = {}
    for frame_id, frame in scene.frames.items():
        if uid not in frame.bearings:
            continue
        if frame.bearings[uid] < TOWARDS:
            tiers[frame_id] = "tierC"
        elif frame_id in of_others:
            tiers[frame_id] = "tierB"
    return tiers


def _elsewhere(
    scene: SceneRecord, uid: int, frame_a: str, others: Sequence[SceneRecord], rng: np.random.Generator
) -> list[Pair]:
    """A random view of another scene that shows nothing of the object's label, or none."""
    other = others[int(rng.integers(len(others)))]
    shown = sorted({frame for views in other.views.values() for frame in views})
    frames = [frame for frame in shown if scene.labels[uid] not in other.frames[frame].labels]
    if not frames:
        return []
    return [Pair(scene, uid, frame_a, other, frames[int(rng.integers(len(frames)))], "tierA")]


def _spread(pairs: list[Pair], count: int, rng: np.random.Generator) -> list[Pair]:
    """Up to `count` random pairs, so that no object has two more than another that has pairs left."""
    shuffled = [pairs[place] for place in rng.permutation(len(pairs))]
    return _round_robin(shuffled, lambda pair: pair.object_key)[:count]


def _round_robin(values: Sequence[T], key: Callable[[T], Hashable]) -> list[T]:
    """The first value of every key, then the second of every key, and so on."""
    seen: Counter[Hashable] = Counter()
    ranked = []
    for value in values:
        ranked.append((seen[key(value)], value))
        seen[key(value)] += 1
    return [value for _, value in sorted(ranked, key=lambda entry: entry[0])]
