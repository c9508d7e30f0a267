"""The room itself: a box seen from inside, with a checkered floor and four walls that differ.

The walls differ in colour and carry a window or a door, so that two views of a room can be related to each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stepladder.data.rooms.arrays import Color, Floats, Ints, Mask, Vector

#: Faces by number: walls at x = 0 and x = size, at y = 0 and y = size, floor, ceiling (2 * axis + far side).
FLOOR, CEILING = 4, 5

_TILE = 0.6  # metres
_SKIRTING = 0.12  # metres
_WINDOW = ((0.3, 0.6), (1.0, 2.1))  # share of the wall's length, metres of height
_DOOR = ((0.62, 0.78), (0.0, 2.0))
_WINDOW_COLOR: Color = (0.75, 0.88, 0.97)
_DOOR_COLOR: Color = (0.50, 0.36, 0.24)
_CEILING_COLOR: Color = (0.93, 0.93, 0.91)


@dataclass(frozen=True)
class Room:
    """Attributes:
    size: width (x), depth (y) and height (z), metres; one corner of the floor is the origin.
    floor: the two colours of the tiles.
    walls: the colours of the four walls, in the order of the faces.
    """

    size: Vector
    floor: tuple[Color, Color]
    walls: tuple[Color, Color, Color, Color]

    def hit(self, origin: Vector, directions: Floats) -> tuple[Floats, Ints]:
        """Distance [n] at which rays [n, 3] from inside meet the room's surface, and the number of that face [n]."""
        with np.errstate(divide="ignore"):
            ahead = np.where(directions > 0, self.size, 0.0) - np.array(origin)
            distances = np.where(directions == 0, np.inf, ahead / directions)
        axis = np.argmin(distances, axis=1)
        rows = np.arange(len(directions))
        return distances[rows, axis], 2 * axis + (directions[rows, axis] > 0)

    def normals(self, faces: Ints) -> Floats:
        """Unit normals [n, 3] of faces [n], pointing into the room."""
        inward = np.zeros((6, 3))
        inward[np.arange(6), np.arange(6) // 2] = [1, -1, 1, -1, 1, -1]
        return inward[faces]

    def colors(self, points: Floats, faces: Ints) -> Floats:
        """Unlit colours [n, 3] at surface points [n, 3] of faces [n]."""
        colors: Floats = np.array([*self.walls, self.floor[0], _CEILING_COLOR])[faces]
        tile = np.floor(points[:, :2] / _TILE).sum(axis=1) % 2 == 1
        colors[(faces == FLOOR) & tile] = self.floor[1]
        colors[(faces < FLOOR) & (points[:, 2] < _SKIRTING)] = _CEILING_COLOR
        for face in range(FLOOR):
            along = points[:, 1 - face // 2] / self.size[1 - face // 2]
            opening, color = (_WINDOW, _WINDOW_COLOR) if face % 2 == 0 else (_DOOR, _DOOR_COLOR)
            colors[(faces == face) & _within(along, opening[0]) & _within(points[:, 2], opening[1])] = color
        return colors


def _within(values: Floats, bounds: tuple[float, float]) -> Mask:
    return (values >= bounds[0]) & (values <= bounds[1])
