"""The solids that stand in a room: where a ray enters them and how their surface is turned.

All three answer the same questions, so the ray caster needs no cases:

- `base`: middle of the lowest face (the lowest point of a sphere); `height`: extent along z; `reach`: radius of the
  disc around `base` that holds the solid seen from above; all in metres;
- `distance(origin, directions)`: distance [n] at which each ray [n, 3] enters the solid, infinity where it misses. A
  ray starts outside; distances are in units of its direction's length;
- `normals(points)`: outward unit normals [n, 3] at surface points [n, 3].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from stepladder.data.rooms.arrays import Floats, Mask, Vector

_TINY = 1e-12


@dataclass(frozen=True)
class Sphere:
    base: Vector
    radius: float

    @property
    def height(self) -> float:
        return 2 * self.radius

    @property
    def reach(self) -> float:
        return self.radius

    def _center(self) -> Floats:
        return np.add(self.base, (0.0, 0.0, self.radius))

    def distance(self, origin: Vector, directions: Floats) -> Floats:
        offset = np.array(origin) - self._center()
        near, _ = _quadratic(
            np.einsum("ij,ij->i", directions, directions), directions @ offset, float(offset @ offset) - self.radius**2
        )
        return np.where(near > 0, near, np.inf)

    def normals(self, points: Floats) -> Floats:
        return (points - self._center()) / self.radius


@dataclass(frozen=True)
class Cylinder:
    base: Vector
    radius: float
    height: float

    @property
    def reach(self) -> float:
        return self.radius

    def distance(self, origin: Vector, directions: Floats) -> Floats:
        # The ray is inside the solid while it is inside the endless tube and between the two end planes.
        offset = np.array(origin) - self.base
        flat = directions[:, :2]
        tube = _quadratic(
            np.einsum("ij,ij->i", flat, flat), flat @ offset[:2], float(offset[:2] @ offset[:2]) - self.radius**2
        )
        ends = _slab(offset[2], directions[:, 2], 0.0, self.height)
        return _entry(np.maximum(tube[0], ends[0]), np.minimum(tube[1], ends[1]))

    def normals(self, points: Floats) -> Floats:
        local = points - self.base
        normals = np.column_stack([local[:, :2] / self.radius, np.zeros(len(local))])
        # On an end face the distance from the side is larger than the distance from the end.
        from_end = np.minimum(np.abs(local[:, 2]), np.abs(local[:, 2] - self.height))
        from_side = np.abs(self.radius - np.hypot(local[:, 0], local[:, 1]))
        on_end: Mask = from_end < from_side
        normals[on_end] = 0
        normals[on_end, 2] = np.where(local[on_end, 2] > self.height / 2, 1.0, -1.0)
        return normals


@dataclass(frozen=True)
class Box:
    base: Vector
    size: Vector
    yaw: float  # radians, about z

    @property
    def height(self) -> float:
        return self.size[2]

    @property
    def reach(self) -> float:
        return math.hypot(self.size[0], self.size[1]) / 2

    def _turn(self) -> Floats:
        """Rotation [3, 3] that takes room directions (as row vectors, from the right) into the box's own frame."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])

    def _center(self) -> Floats:
        return np.add(self.base, (0.0, 0.0, self.size[2] / 2))

    def distance(self, origin: Vector, directions: Floats) -> Floats:
        start = (np.array(origin) - self._center()) @ self._turn()
        local = directions @ self._turn()
        near, far = np.full(len(local), -np.inf), np.full(len(local), np.inf)
        for axis, extent in enumerate(self.size):
            enter, leave = _slab(start[axis], local[:, axis], -extent / 2, extent / 2)
            near, far = np.maximum(near, enter), np.minimum(far, leave)
        return _entry(near, far)

    def normals(self, points: Floats) -> Floats:
        local = (points - self._center()) @ self._turn() / (np.array(self.size) / 2)
        axis = np.argmax(np.abs(local), axis=1)
        rows = np.arange(len(local))
        normals = np.zeros_like(local)
        normals[rows, axis] = np.sign(local[rows, axis])
        return normals @ self._turn().T


Shape: TypeAlias = Sphere | Cylinder | Box


def _quadratic(a: Floats, half_b: Floats, c: float) -> tuple[Floats, Floats]:
    """Where a t^2 + 2 half_b t + c <= 0 begins and ends; (infinity, -infinity) where it never is."""
    discriminant = half_b**2 - a * c
    root, safe = np.sqrt(np.maximum(discriminant, 0.0)), np.maximum(a, _TINY)
    near = np.where(discriminant > 0, (-half_b - root) / safe, np.inf)
    far = np.where(discriminant > 0, (root - half_b) / safe, -np.inf)
    # A ray along the axis of a tube never enters or leaves it.
    along = (a < _TINY) & (c <= 0)
    return np.where(along, -np.inf, near), np.where(along, np.inf, far)


def _slab(start: float, direction: Floats, low: float, high: float) -> tuple[Floats, Floats]:
    """Distances at which rays enter and leave the space between two parallel planes."""
    safe = np.where(np.abs(direction) < _TINY, _TINY, direction)
    first, second = (low - start) / safe, (high - start) / safe
    return np.minimum(first, second), np.maximum(first, second)


def _entry(near: Floats, far: Floats) -> Floats:
    return np.where((near <= far) & (near > 0), near, np.inf)
