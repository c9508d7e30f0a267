"""Which view is paired with which: the positives and the three tiers of negatives.

The object is marked in image A, always one of its own views. In image B a positive shows it, as another of its own
views; in a negative it is known not to be seen:

- tierA: B is a view from another scene, one that is not known to show anything of the same label;
- tierB: B is a view of another object of the same scene and does not show this one;
- tierC: B is a frame of the same part of the scene, where the object is hidden, just out of the picture or removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stepladder.data.build.arrays import Ints
from stepladder.data.build.scene import TIERS, Scene


@dataclass(frozen=True, slots=True)
class Pair:
    """Attributes:
    a: the scene of image A.
    uid: the object marked in A.
    frame_a: frame of image A.
    b: the scene of image B.
    frame_b: frame of image B.
    tier: None for a positive, else one of `TIERS`.
    """

    a: Scene
    uid: int
    frame_a: str
    b: Scene
    frame_b: str
    tier: str | None

    @property
    def basis(self) -> str | None:
        """What a negative rests on: a word of `scene`, or "scene" for another scene; None for a positive."""
        if self.tier is None:
            return None
        if self.a is not self.b:
            return "scene"
        bases = self.a.absent[self.uid][self.tier]
        return next(basis for basis, frames in bases.items() if self.frame_b in frames)


class Candidates(Protocol):
    """Pairs of one object and one kind."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Pair: ...


@dataclass(frozen=True, slots=True)
class WithinScene:
    """Each of `frames_a` with each of `frames_b` but itself, made when asked for: there may be millions."""

    scene: Scene
    uid: int
    tier: str | None
    frames_a: Sequence[str]
    frames_b: Sequence[str]

    def __len__(self) -> int:
        return sum(len(self.frames_b) - (frame in self.frames_b) for frame in self.frames_a)

    def __getitem__(self, index: int, /) -> Pair:
        for frame_a in self.frames_a:
            own = self.frames_b.index(frame_a) if frame_a in self.frames_b else len(self.frames_b)
            count = len(self.frames_b) - (own < len(self.frames_b))
            if index < count:
                frame_b = self.frames_b[index + (index >= own)]
                return Pair(self.scene, self.uid, frame_a, self.scene, frame_b, self.tier)
            index -= count
        raise IndexError(index)


def positives(scenes: Sequence[Scene]) -> list[Candidates]:
    """All pairs of two views of an object, in both directions."""
    return [
        WithinScene(scene, uid, None, tuple(views), tuple(views))
        for scene in scenes
        for uid, views in scene.views.items()
    ]


def negatives(
    scenes: Sequence[Scene], easy: int, rng: np.random.Generator, draws: int = 1
) -> dict[str, list[Candidates]]:
    """The candidates of every tier: all that there are of B and C; of A up to `easy` for each view that can be marked.

    Tier A draws another scene, each as likely, then one of its views, each as likely, `draws` times at most for each
    one that is wanted: a scene may show the object's label everywhere, and a view may have been drawn already.
    """
    found: dict[str, list[Candidates]] = {tier: [] for tier in TIERS}
    others = _OtherScenes(scenes, rng, draws)
    for place, scene in enumerate(scenes):
        for uid, views in scene.views.items():
            found[TIERS[0]].append([pair for frame in views for pair in others.pairs(place, uid, frame, easy)])
            for tier, bases in scene.absent[uid].items():
                frames_b = tuple(frame for frames in bases.values() for frame in frames)
                found[tier].append(WithinScene(scene, uid, tier, tuple(views), frames_b))
    return found


def spread(groups: Sequence[Candidates], count: int, rng: np.random.Generator) -> list[Pair]:
    """Up to `count` random pairs, so that no group has two more chosen than another that has pairs left."""
    sizes = np.array([len(group) for group in groups], dtype=np.int64)
    first = np.cumsum(sizes) - sizes
    owner = np.repeat(np.arange(len(groups)), sizes)
    shuffled = rng.permutation(len(owner))
    chosen = shuffled[take_turns(owner[shuffled])][:count]
    return [groups[owner[index]][int(index - first[owner[index]])] for index in chosen]


def take_turns(owners: Ints) -> Ints:
    """Places [n] of the first entry of every owner, then the second of every owner, and so on; `owners` is [n]."""
    by_owner = np.argsort(owners, kind="stable")
    ordered = owners[by_owner]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    turn = np.empty(len(owners), dtype=np.int64)
    turn[by_owner] = np.arange(len(owners)) - np.repeat(starts, np.diff(starts, append=len(owners)))
    return np.argsort(turn, kind="stable")


def split_evenly(count: int, ratio: Sequence[float]) -> list[int]:
    """`count` split by a ratio: whole parts first, what is left to the largest remainders, the first of equal ones."""
    exact = [count * part / sum(ratio) for part in ratio]
    whole = [int(part) for part in exact]
    by_remainder = sorted(range(len(ratio)), key=lambda place: whole[place] - exact[place])
    for place in by_remainder[: count - sum(whole)]:
        whole[place] += 1
    return whole


class _OtherScenes:
    """Draws views of other scenes."""

    def __init__(self, scenes: Sequence[Scene], rng: np.random.Generator, draws: int) -> None:
        self.scenes, self.rng, self.draws = scenes, rng, draws
        self._without: dict[tuple[int, str], list[str]] = {}

    def pairs(self, place: int, uid: int, frame_a: str, wanted: int) -> list[Pair]:
        """Up to `wanted` views of scenes other than the one at `place`, each once, without the object's label."""
        scene = self.scenes[place]
        found: dict[tuple[int, str], Pair] = {}
        for _ in range(self.draws * wanted if len(self.scenes) > 1 else 0):
            other = int(self.rng.integers(len(self.scenes) - 1))
            other += other >= place
            frames = self._frames_without(other, scene.labels[uid])
            if frames:
                frame_b = frames[int(self.rng.integers(len(frames)))]
                found[other, frame_b] = Pair(scene, uid, frame_a, self.scenes[other], frame_b, TIERS[0])
            if len(found) == wanted:
                break
        return list(found.values())

    def _frames_without(self, place: int, label: str) -> list[str]:
        """Frames of a scene that show some object, but are not known to show one of that label."""
        if (place, label) not in self._without:
            scene = self.scenes[place]
            self._without[place, label] = [f for f in scene.shown if label not in scene.frames[f].labels]
        return self._without[place, label]
