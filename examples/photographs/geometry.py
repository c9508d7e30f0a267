"""Where a pixel of photograph A is in photograph B, by known geometry. Pixels are (x, y), centres at whole numbers.

Two kinds of pairs. On a flat wall a homography says it for every pixel (Hartley and Zisserman, "Multiple View Geometry
in Computer Vision", chapter 2). Two cameras side by side, whose images are rectified, see a point in the same row; the
disparity `d` of a pixel of the left image is how far its point has moved: ``x_right = x_left - d``.
"""

import math
import xml.etree.ElementTree as ElementTree
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

#: What is known of a pixel's point in the other photograph.
SEEN, OUTSIDE, HIDDEN, UNKNOWN = "seen", "outside", "hidden", "unknown"

#: Two surfaces whose disparities differ by no more, in pixels, are one: disparities are whole numbers.
SAME_SURFACE = 1.5

#: Standard deviation of brightness, of 255, below which a patch looks like any other.
LEAST_CONTRAST = 8.0


_HINT = "hint: take the files as they are in OpenCV's samples/data, or leave out --images"


class PhotographError(Exception):
    """A file is not what it should be; the message ends with a hint."""


@dataclass(frozen=True)
class Photographs(ABC):
    """Two photographs of one thing.

    Attributes:
        scene: its name.
        names: of A and B.
        a, b: [height, width, 3], 8 bits.
        measured: every pixel's geometry is measured; else it is a model that holds where the pixels say so.
        height: rows of the scene that `rows_a` and `rows_b` count.
    """

    scene: str
    names: tuple[str, str]
    a: np.ndarray
    b: np.ndarray
    measured: bool
    height: int

    @abstractmethod
    def to_b(self, points: np.ndarray) -> np.ndarray:
        """Where points [n, 2] of A are in B, [n, 2]; not a number where that is not known."""

    @abstractmethod
    def fate(self, points: np.ndarray) -> np.ndarray:
        """SEEN, OUTSIDE, HIDDEN or UNKNOWN for each of the points [n, 2] of A."""

    @abstractmethod
    def rows_a(self, points: np.ndarray) -> np.ndarray:
        """The row of the scene that points [n, 2] of A show; `rows_b` says the same of points of B."""

    @abstractmethod
    def rows_b(self, points: np.ndarray) -> np.ndarray:
        """See `rows_a`."""


@dataclass(frozen=True)
class FlatPair(Photographs):
    """A flat wall.

    Attributes:
        homography: [3, 3], takes pixels of A to pixels of B.
        wall_a, wall_b: [3, 3], take pixels of A and of B to the wall, as the first photograph shows it.
    """

    homography: np.ndarray
    wall_a: np.ndarray
    wall_b: np.ndarray

    def to_b(self, points: np.ndarray) -> np.ndarray:
        return through(self.homography, points)

    def fate(self, points: np.ndarray) -> np.ndarray:
        return np.where(inside(self.to_b(points), self.b), SEEN, OUTSIDE)

    def rows_a(self, points: np.ndarray) -> np.ndarray:
        return through(self.wall_a, points)[:, 1]

    def rows_b(self, points: np.ndarray) -> np.ndarray:
        return through(self.wall_b, points)[:, 1]

    def turned(self) -> "FlatPair":
        """The same pair with A and B exchanged."""
        back = np.linalg.inv(self.homography)
        facts = (self.measured, self.height, back, self.wall_b, self.wall_a)
        return FlatPair(self.scene, self.names[::-1], self.b, self.a, *facts)


@dataclass(frozen=True)
class StereoPair(Photographs):
    """Cameras side by side.

    Attributes:
        disparity: [height, width] of A in pixels, 0 where it is not known.
    """

    disparity: np.ndarray

    def to_b(self, points: np.ndarray) -> np.ndarray:
        found = self._disparity_at(points)
        return np.stack([np.where(found > 0, points[:, 0] - found, np.nan), points[:, 1]], axis=1)

    def fate(self, points: np.ndarray) -> np.ndarray:
        there = self.to_b(points)
        known = ~np.isnan(there[:, 0])
        lands = inside(there, self.b)
        columns, rows = np.where(lands[:, None], there, 0).round().astype(int).T
        hidden = self.nearest[rows, columns] > self._disparity_at(points) + SAME_SURFACE
        return np.select([~known, ~lands, hidden], [UNKNOWN, OUTSIDE, HIDDEN], SEEN)

    def rows_a(self, points: np.ndarray) -> np.ndarray:
        return points[:, 1]

    def rows_b(self, points: np.ndarray) -> np.ndarray:
        return points[:, 1]

    @cached_property
    def nearest(self) -> np.ndarray:
        """For every pixel of B the largest disparity of what lands on it: of all that does, B shows the nearest."""
        rows, columns = np.mgrid[: self.disparity.shape[0], : self.disparity.shape[1]]
        there = columns - np.rint(self.disparity).astype(int)
        lands = (self.disparity > 0) & (there >= 0)
        nearest = np.zeros(self.b.shape[:2])
        np.maximum.at(nearest, (rows[lands], there[lands]), self.disparity[lands])
        return nearest

    def _disparity_at(self, points: np.ndarray) -> np.ndarray:
        columns, rows = points.round().astype(int).T
        return self.disparity[rows, columns]


def through(homography: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points [n, 2] through a homography [3, 3]."""
    mapped = np.column_stack([points, np.ones(len(points))]) @ homography.T
    return mapped[:, :2] / mapped[:, 2:]


def inside(points: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Whether points [n, 2] lie on an image's pixels; what is not a number does not."""
    height, width = image.shape[:2]
    x, y = points.T
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def read_flat(folder: Path) -> FlatPair:
    """The painted wall, `graf1.png` to `graf3.png`. A car before it is no part of it. Raises PhotographError."""
    homography = _read_homography(folder / "H1to3p.xml")
    names = ("graf1.png", "graf3.png")
    a, b = (read_image(folder / name) for name in names)
    return FlatPair("graf", names, a, b, False, len(a), homography, np.eye(3), np.linalg.inv(homography))


def read_stereo(folder: Path) -> StereoPair:
    """The plant, `aloeL.jpg` to `aloeR.jpg`.

    It is the scene Aloe of Middlebury's stereo data of 2006 in full size: a disparity is the value of its pixel, in
    pixels, and 0 is not known. tests/test_photographs.py checks that against the photographs. Raises PhotographError.
    """
    names = ("aloeL.jpg", "aloeR.jpg")
    a, b = (read_image(folder / name) for name in names)
    disparity = _read_pixels(folder / "aloeGT.png", "L").astype(float)
    if disparity.shape != a.shape[:2]:
        (height, width), (rows, columns) = disparity.shape, a.shape[:2]
        text = f"aloeGT.png has {width} x {height} pixels, expected {columns} x {rows}, as {names[0]} has"
        raise PhotographError(f"{folder}/{text}\n{_HINT}")
    return StereoPair("aloe", names, a, b, True, len(a), disparity)


def read_image(path: Path) -> np.ndarray:
    """[height, width, 3], 8 bits. Raises PhotographError."""
    return _read_pixels(path, "RGB")


def _read_pixels(path: Path, mode: str) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert(mode))
    except (OSError, SyntaxError, ValueError) as error:
        raise PhotographError(f"{path} cannot be read: {error}\n{_HINT}") from None


def _read_homography(path: Path) -> np.ndarray:
    try:
        text = ElementTree.parse(path).findtext("H13/data")
        return np.array((text or "").split(), dtype=float).reshape(3, 3)
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise PhotographError(f"{path} cannot be read: {error}\n{_HINT}") from None


def agreement(pair: Photographs, points: np.ndarray) -> float:
    """How well B's pixels at the points' places agree with A's: their correlation, from -1 to 1, whatever the light.

    Not a number where pixels say nothing: a point is not in B, or pixels hardly differ.
    """
    there = pair.to_b(points)
    if not inside(there, pair.b).all():
        return math.nan
    a, b = _grey_at(pair.a, points), _grey_at(pair.b, there)
    return math.nan if min(a.std(), b.std()) < LEAST_CONTRAST else float(np.corrcoef(a, b)[0, 1])


def _grey_at(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Brightness at points [n, 2], between pixels by bilinear interpolation."""
    height, width = image.shape[:2]
    left = np.clip(np.floor(points[:, 0]).astype(int), 0, width - 2)
    top = np.clip(np.floor(points[:, 1]).astype(int), 0, height - 2)
    x, y = points[:, 0] - left, points[:, 1] - top
    (a, b), (c, d) = ((image[row, column].mean(axis=1) for column in (left, left + 1)) for row in (top, top + 1))
    return (a * (1 - x) + b * x) * (1 - y) + (c * (1 - x) + d * x) * y
