"""Pairs of views: a spot framed in a view of photograph A, and a view of B that shows it or does not.

What is not sure is not used: a spot counts as seen where geometry says so and the pixels agree, and as hidden where
geometry says so and they do not. Of every photograph the upper part is for evaluation and the lower one for training,
in A as well as in B, so that no view of one shows anything of the other.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from geometry import HIDDEN, OUTSIDE, SEEN, UNKNOWN, Photographs, agreement
from views import HEIGHT, WIDTH, Window, fraction

#: The upper part of a scene, of its height, is held out.
HELD_OUT = 0.36

#: Width of a window, of the photograph's; side of a spot, of the window's width.
WINDOW_WIDTHS = (0.28, 0.45)
SPOT = 0.07

#: Points along a side of a spot at which geometry and pixels are asked.
GRID = 15

#: Correlation from which pixels agree, and below which they do not.
AGREE, DISAGREE = 0.7, 0.3

#: Share of a spot's points that geometry must call hidden; the edges of what hides them are ragged.
MOSTLY = 0.9

#: How far beside a window a spot is, of the window's width: just out of the picture, or somewhere else.
NEAR, FAR = (0.02, 0.25), (0.5, 9.0)

MOST_TRIES = 20_000


class PairsError(Exception):
    """The photographs do not give what is asked for; the message ends with a hint."""


@dataclass(frozen=True)
class Pair:
    """One question and its answer.

    Attributes:
        a, b: the photographs that the two views are of (B's own for tier A).
        window_a, window_b: the views.
        spot_a: points of the spot, pixels of A, [n, 2].
        spot_b: where they are in B; None where B shows another scene.
        tier: None for a positive, else "tierA", "tierB" or "tierC".
        why: why the spot is not to be seen, or "seen".
        part: of the scenes, "upper" or "lower".
    """

    a: Photographs
    b: Photographs
    window_a: Window
    window_b: Window
    spot_a: np.ndarray
    spot_b: np.ndarray | None
    tier: str | None
    why: str
    part: str

    @property
    def answer(self) -> tuple[float, float] | None:
        """The spot's centre in view B, in [0, 1]; None for NOT_VISIBLE."""
        return None if self.tier or self.spot_b is None else fraction(self.window_b.to_view(centre(self.spot_b)))

    @property
    def shift(self) -> float | None:
        """How far the spot is in view B from where it is in view A, in units of the image's sides."""
        if self.answer is None:
            return None
        return float(np.hypot(*np.subtract(self.answer, fraction(self.window_a.to_view(centre(self.spot_a))))))


#: A spot of photograph A, points [n, 2].
Spot = tuple[Photographs, np.ndarray]

#: The photographs that view B is of, the view, and where the spot is in B.
Choice = tuple[Photographs, Window, np.ndarray | None]


class Chooser:
    """Draws pairs of one part of the photographs.

    Args:
        photographs: pairs of at least two scenes, one of them measured.
        training: the lower part; False: the upper one.
        draw: where every choice comes from.
    """

    def __init__(self, photographs: list[Photographs], training: bool, draw: np.random.Generator) -> None:
        self._photographs = photographs
        self._training = training
        self._draw = draw
        self._kinds = {
            "seen": self._seen,
            "other scene": self._other_scene,
            "elsewhere": lambda found: self._beside(found, FAR),
            "just outside": lambda found: self._beside(found, NEAR),
            "hidden": self._hidden,
        }

    def pair(self, kind: str, tier: str | None) -> Pair:
        """A pair of a kind ("seen", "other scene", "elsewhere", "just outside" or "hidden"). Raises PairsError."""
        measured = [found for found in self._photographs if found.measured or kind != "hidden"]
        for _ in range(MOST_TRIES):
            photographs = measured[self._draw.integers(len(measured))]
            window_a = self._window(photographs.a)
            spot = self._spot(window_a)
            if self._in_part(photographs.rows_a(window_a.corners), photographs):
                found = self._kinds[kind]((photographs, spot))
                if found is not None:
                    b, window_b, spot_b = found
                    part = "lower" if self._training else "upper"
                    return Pair(photographs, b, window_a, window_b, spot, spot_b, tier, kind, part)
        raise PairsError(f"no pair of kind {kind!r} in {MOST_TRIES} tries\nhint: are these the photographs of OpenCV?")

    def _seen(self, found: Spot) -> Choice | None:
        photographs, spot = found
        if not seen(photographs, spot):
            return None
        there = photographs.to_b(spot)
        return self._checked(photographs, self._window_around(photographs.b, there), there)

    def _hidden(self, found: Spot) -> Choice | None:
        photographs, spot = found
        fates = photographs.fate(spot)
        if (fates == UNKNOWN).any() or (fates == HIDDEN).mean() < MOSTLY:
            return None
        if not agreement(photographs, spot) <= DISAGREE:  # also where the pixels say nothing
            return None
        there = photographs.to_b(spot)
        return self._checked(photographs, self._window_around(photographs.b, there), there)

    def _beside(self, found: Spot, gaps: tuple[float, float]) -> Choice | None:
        photographs, spot = found
        left = photographs.measured and (photographs.fate(spot) == OUTSIDE).all()
        if not left and not seen(photographs, spot):
            return None
        there, window = photographs.to_b(spot), self._window(photographs.b)
        if not gaps[0] <= gap(window, there) <= gaps[1]:
            return None
        return self._checked(photographs, window, there)

    def _other_scene(self, found: Spot) -> Choice | None:
        others = [other for other in self._photographs if other.scene != found[0].scene]
        other = others[self._draw.integers(len(others))]
        return self._checked(other, self._window(other.b), None)

    def _checked(self, photographs: Photographs, window: Window | None, there: np.ndarray | None) -> Choice | None:
        if window is None or not self._in_part(photographs.rows_b(window.corners), photographs):
            return None
        return photographs, window, there

    def _in_part(self, rows: np.ndarray, photographs: Photographs) -> bool:
        border = HELD_OUT * photographs.height
        return bool((rows >= border).all() if self._training else (rows < border).all())

    def _width(self, image: np.ndarray) -> float:
        return float(self._draw.uniform(*WINDOW_WIDTHS)) * image.shape[1]

    def _window(self, image: np.ndarray) -> Window:
        """Any window of a photograph."""
        width = self._width(image)
        room = np.subtract(image.shape[1::-1], (width, width * HEIGHT / WIDTH))
        return Window(*(self._draw.uniform(size=2) * room), width)

    def _window_around(self, image: np.ndarray, points: np.ndarray) -> Window | None:
        """Any window that shows all of the points, the outermost a little inside."""
        width = self._width(image)
        size = np.array((width, width * HEIGHT / WIDTH))
        edge = 0.02 * width
        low = np.maximum(points.max(axis=0) + edge - size, 0)
        high = np.minimum(points.min(axis=0) - edge, np.subtract(image.shape[1::-1], size))
        return None if (low > high).any() else Window(*self._draw.uniform(low, high), width)

    def _spot(self, window: Window) -> np.ndarray:
        """A square of points in the window."""
        side = SPOT * window.width
        room = np.array((window.width, window.height)) - 1.4 * side
        corner = np.array((window.x, window.y)) + 0.2 * side + self._draw.uniform(size=2) * room
        steps = np.linspace(0, side, GRID)
        return corner + np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)


def seen(photographs: Photographs, spot: np.ndarray) -> bool:
    """Whether B shows the whole spot, by geometry and by its pixels."""
    return bool((photographs.fate(spot) == SEEN).all()) and agreement(photographs, spot) >= AGREE


def centre(spot: np.ndarray) -> np.ndarray:
    """The middle point of a spot's grid [GRID * GRID, 2], which geometry took to its place as it did the others."""
    return spot[len(spot) // 2]


def gap(window: Window, points: np.ndarray) -> float:
    """How far the nearest of the points is outside a window, in units of its width; negative inside."""
    first, last = np.array((window.x, window.y)), np.array((window.x + window.width, window.y + window.height)) - 1
    return float(np.maximum(first - points, points - last).max(axis=1).min() / window.width)


def plan(samples: int) -> Iterator[tuple[str, str | None]]:
    """(kind, tier) of each sample: half positives, the rest a third of each tier; of tier C half are hidden."""
    negatives = samples // 2
    yield from [("seen", None)] * (samples - negatives)
    for number in range(negatives):
        tier = "tier" + "ABC"[number % 3]
        of_c = ("hidden", "just outside")[number // 3 % 2]
        yield {"tierA": "other scene", "tierB": "elsewhere", "tierC": of_c}[tier], tier
