"""A pinhole camera without roll. Pixel (column 0, row 0) is the upper left one; whole numbers are pixel centres."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stepladder.data.rooms.arrays import Floats, Vector


@dataclass(frozen=True)
class Camera:
    """Attributes:
    position: the pinhole, metres.
    target: a point on the optical axis, metres; not straight above or below `position`.
    fov: horizontal field of view, radians.
    """

    position: Vector
    target: Vector
    fov: float

    def axes(self) -> Floats:
        """Unit vectors [3, 3] to the right, downwards and forwards of the image, as rows."""
        forward = np.array(self.target) - self.position
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(forward, right), forward])

    def rays(self, width: int, height: int) -> Floats:
        """Directions [height * width, 3] through the pixel centres, row by row.

        Each has length 1 along the optical axis, so a distance along it is the depth.
        """
        focal = self._focal(width)
        columns, rows = np.meshgrid(np.arange(width) - (width - 1) / 2, np.arange(height) - (height - 1) / 2)
        local = np.stack([columns / focal, rows / focal, np.ones_like(columns)], axis=-1)
        return local.reshape(-1, 3) @ self.axes()

    def project(self, points: Floats, width: int, height: int) -> Floats:
        """Column, row and depth in metres [n, 3] of points [n, 3]; only meaningful where the depth is positive."""
        local = (points - np.array(self.position)) @ self.axes().T
        depth = local[:, 2]
        scale = self._focal(width) / depth
        return np.stack([local[:, 0] * scale + (width - 1) / 2, local[:, 1] * scale + (height - 1) / 2, depth], axis=-1)

    def bearing(self, point: Vector) -> float:
        """Angle in radians between the optical axis and the direction to a point."""
        direction = np.array(point) - self.position
        return math.acos(np.clip(self.axes()[2] @ direction / np.linalg.norm(direction), -1.0, 1.0))

    def _focal(self, width: int) -> float:
        return width / 2 / math.tan(self.fov / 2)
