"""Image A and image B side by side in one picture, A on the left, both at the top, black where one is lower.

With the width w of an image a point is x = column / (w - 1), so in the whole picture, W = w_A + w_B wide and
H = max(h_A, h_B) high, a point of B is

    x' = (w_A + x (w_B - 1)) / (W - 1)        y' = y (h_B - 1) / (H - 1)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

_Value = TypeVar("_Value", bound=np.generic)
Point = tuple[float, float]


@dataclass(frozen=True)
class SideBySide:
    """Sizes of the two images, (width, height) in pixels."""

    a: tuple[int, int]
    b: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the whole picture."""
        return self.a[0] + self.b[0], max(self.a[1], self.b[1])

    def whole_from_b(self, point: Point) -> Point:
        """A point of image B, in [0, 1], as a point of the whole picture."""
        (width, height), (b_width, b_height) = self.size, self.b
        return (self.a[0] + point[0] * (b_width - 1)) / (width - 1), point[1] * (b_height - 1) / (height - 1)

    def b_from_whole(self, point: Point) -> Point:
        """A point of the whole picture as a point of image B; outside of [0, 1] where it does not lie on B."""
        (width, height), (b_width, b_height) = self.size, self.b
        return (point[0] * (width - 1) - self.a[0]) / (b_width - 1), point[1] * (height - 1) / (b_height - 1)

    def join(self, a: npt.NDArray[_Value], b: npt.NDArray[_Value]) -> npt.NDArray[_Value]:
        """The whole picture [H, W, ...] of two arrays [h, w, ...] of these sizes."""
        width, height = self.size
        whole = np.zeros((height, width, *a.shape[2:]), dtype=a.dtype)
        whole[: self.a[1], : self.a[0]] = a
        whole[: self.b[1], self.a[0] :] = b
        return whole


def scaled(array: npt.NDArray[_Value], size: tuple[int, int]) -> npt.NDArray[_Value]:
    """An array [h, w] brought to `size` (width, height) by its nearest values; depth is often smaller than its view."""
    rows = np.arange(size[1]) * array.shape[0] // size[1]
    columns = np.arange(size[0]) * array.shape[1] // size[0]
    nearest: npt.NDArray[_Value] = array[rows[:, None], columns]
    return nearest
