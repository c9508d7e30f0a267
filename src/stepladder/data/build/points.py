"""From an object's mask to the one point that stands for it, by either of the two rules in use."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stepladder.data.build.arrays import Floats, Mask

#: "farthest": the mask pixel farthest from the mask's edge. "center": the middle of the mask's bounding box if it
#: lies on the mask, else a random mask pixel.
POINT_RULES = ("farthest", "center")


def find_point(mask: Mask, rule: str, rng: np.random.Generator) -> tuple[int, int]:
    """Column and row of the point of a mask [height, width] that is not empty; `rng` serves the "center" rule only."""
    x0, y0, x1, y1 = bounding_box(mask)
    if rule == "farthest":
        # Nothing beyond the box matters: all of it lies outside the mask.
        row, column = divmod(int(np.argmax(edge_distance(mask[y0 : y1 + 1, x0 : x1 + 1]))), x1 - x0 + 1)
        return x0 + column, y0 + row
    column, row = (x0 + x1) // 2, (y0 + y1) // 2
    if not mask[row, column]:
        row, column = rng.choice(np.argwhere(mask)).tolist()
    return column, row


def normalize(column: float, row: float, width: int, height: int) -> tuple[float, float]:
    """Pixel to [0, 1]: column / (width - 1), row / (height - 1)."""
    return column / (width - 1), row / (height - 1)


def bounding_box(mask: Mask) -> tuple[int, int, int, int]:
    """First column, first row, last column and last row (inclusive) of a mask that is not empty."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def edge_distance(mask: Mask) -> Floats:
    """Exact Euclidean distance [height, width] in pixels from each mask pixel to the nearest pixel outside the mask.

    0 outside. Pixels beyond the border of the image count as outside. Separable as in Felzenszwalb and Huttenlocher,
    "Distance Transforms of Sampled Functions" (2012): distances along columns first, then the lower envelope of
    parabolas along rows, which is found by shifting, as far as a parabola can still reach.
    """
    padded = np.pad(mask, 1)
    squared = _column_distance(padded) ** 2
    best, reached = squared.copy(), np.empty_like(squared)
    shift = 1
    while shift**2 < best.max():
        np.add(squared, shift**2, out=reached)
        np.minimum(best[:, shift:], reached[:, :-shift], out=best[:, shift:])
        np.minimum(best[:, :-shift], reached[:, shift:], out=best[:, :-shift])
        shift += 1
    return np.sqrt(best[1:-1, 1:-1].astype(np.float64))


def _column_distance(mask: Mask) -> npt.NDArray[np.int32]:
    """Distance to the nearest pixel outside the mask within the same column; first and last row are outside."""
    distance = np.zeros(mask.shape, dtype=np.int32)
    for row in range(1, len(mask)):
        distance[row] = np.where(mask[row], distance[row - 1] + 1, 0)
    for row in range(len(mask) - 2, -1, -1):
        distance[row] = np.minimum(distance[row], distance[row + 1] + 1)
    return distance
