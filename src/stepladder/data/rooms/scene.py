"""What stands in a room and from where it is looked at, drawn from a random generator."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from stepladder.data.rooms.arrays import Color, Floats, Vector
from stepladder.data.rooms.camera import Camera
from stepladder.data.rooms.room import Room
from stepladder.data.rooms.shapes import Box, Cylinder, Shape, Sphere

#: Colours of the objects; none resembles the colour in which a view is marked.
COLORS: dict[str, Color] = {
    "red": (0.85, 0.12, 0.10),
    "orange": (0.97, 0.55, 0.05),
    "yellow": (0.95, 0.86, 0.10),
    "green": (0.15, 0.62, 0.20),
    "turquoise": (0.10, 0.72, 0.70),
    "blue": (0.12, 0.25, 0.80),
    "white": (0.97, 0.97, 0.97),
    "black": (0.08, 0.08, 0.09),
}
SHAPES = ("box", "sphere", "cylinder")

OBJECTS = 5  # per room, besides the furniture
CAMERAS = 12  # per room

_WOOD: Color = (0.55, 0.38, 0.22)
_TABLE, _CUPBOARD = "table", "cupboard"
_FOV = math.radians(65)
_GAP = 0.1  # metres between two objects
_CAMERA_GAP = 0.9  # metres between a camera and the nearest object
_CANDIDATES = 200  # places tried for one object or camera


@dataclass(frozen=True)
class Item:
    """Attributes:
    uid: number of the object in its scene, from 1.
    label: what a person would call it, such as "red sphere"; no two in a scene share one.
    shape: the solid.
    color: its colour before lighting.
    """

    uid: int
    label: str
    shape: Shape
    color: Color

    @property
    def is_furniture(self) -> bool:
        """Furniture hides and carries objects; it is never asked for."""
        return self.label in (_TABLE, _CUPBOARD)

    @property
    def center(self) -> Vector:
        x, y, z = self.shape.base
        return x, y, z + self.shape.height / 2


@dataclass(frozen=True)
class Scene:
    room: Room
    items: tuple[Item, ...]

    def without(self, uid: int) -> Scene:
        """The same scene with one object taken away."""
        return replace(self, items=tuple(item for item in self.items if item.uid != uid))


def make_scene(rng: np.random.Generator) -> Scene:
    """A room with a table, a cupboard and `OBJECTS` objects of distinct labels, one of them on the table."""
    room = _make_room(rng)
    table = _furniture(rng, 1, _TABLE, (1.1, 0.7, 0.45), (1.4, 0.9, 0.65))
    cupboard = _furniture(rng, 2, _CUPBOARD, (1.1, 0.45, 1.6), (1.6, 0.6, 2.0))
    items: list[Item] = []
    for item in (cupboard, table):
        items.append(_stand(item, _free_place(rng, room, items, item.shape.reach + 0.35)))
    names = [(color, shape) for color in COLORS for shape in SHAPES]
    for index, choice in enumerate(rng.choice(len(names), OBJECTS, replace=False)):
        item = _object(rng, 3 + index, *names[choice])
        if index == 0:
            x, y, _ = items[1].shape.base
            items.append(_stand(item, (x, y, table.shape.height)))
        else:
            items.append(_stand(item, _free_place(rng, room, items, item.shape.reach)))
    return Scene(room, tuple(sorted(items, key=lambda item: item.uid)))


def make_cameras(rng: np.random.Generator, scene: Scene) -> list[Camera]:
    """`CAMERAS` cameras at eye height, clear of all objects, each turned roughly towards one of the objects."""
    objects = [item for item in scene.items if not item.is_furniture]
    cameras = []
    for index in range(CAMERAS):
        x, y, _ = _free_place(rng, scene.room, scene.items, 0.25, _CAMERA_GAP)
        aim = np.array(objects[index % len(objects)].center) + rng.normal(0.0, 0.25, 3)
        cameras.append(Camera((x, y, float(rng.uniform(1.1, 1.8))), _vector(aim), _FOV))
    return cameras


def _make_room(rng: np.random.Generator) -> Room:
    width, depth = rng.uniform(5.5, 7.0, 2)
    tone = rng.uniform(0.35, 0.6, 3)
    pastels = rng.uniform(0.55, 0.85, (4, 3))
    walls = (_color(pastels[0]), _color(pastels[1]), _color(pastels[2]), _color(pastels[3]))
    return Room((float(width), float(depth), 2.7), (_color(tone), _color(tone + 0.18)), walls)


def _furniture(rng: np.random.Generator, uid: int, label: str, smallest: Vector, largest: Vector) -> Item:
    size = _vector(rng.uniform(smallest, largest))
    color = _color(np.array(_WOOD) * rng.uniform(0.8, 1.3))
    return Item(uid, label, Box((0.0, 0.0, 0.0), size, float(rng.uniform(0, math.pi))), color)


def _object(rng: np.random.Generator, uid: int, color: str, shape: str) -> Item:
    nowhere = (0.0, 0.0, 0.0)
    solid: Shape
    if shape == "sphere":
        solid = Sphere(nowhere, float(rng.uniform(0.25, 0.38)))
    elif shape == "cylinder":
        solid = Cylinder(nowhere, float(rng.uniform(0.2, 0.3)), float(rng.uniform(0.5, 0.9)))
    else:
        solid = Box(nowhere, _vector(rng.uniform(0.4, 0.65, 3)), float(rng.uniform(0, math.pi)))
    return Item(uid, f"{color} {shape}", solid, COLORS[color])


def _stand(item: Item, base: Vector) -> Item:
    return replace(item, shape=replace(item.shape, base=base))


def _free_place(
    rng: np.random.Generator, room: Room, items: list[Item] | tuple[Item, ...], reach: float, gap: float = _GAP
) -> Vector:
    """A place on the floor for a disc of radius `reach`, `gap` away from all items; else the widest of those tried."""
    low, high = np.full(2, reach), np.array(room.size[:2]) - reach
    places: Floats = rng.uniform(low, high, (_CANDIDATES, 2))
    free = np.full(_CANDIDATES, np.inf)
    for item in items:
        away = np.linalg.norm(places - item.shape.base[:2], axis=1)
        free = np.minimum(free, away - item.shape.reach - reach)
    best = int(np.argmax(np.minimum(free, gap)))
    return float(places[best, 0]), float(places[best, 1]), 0.0


def _vector(values: Floats) -> Vector:
    x, y, z = values.tolist()
    return x, y, z


def _color(values: Floats) -> Color:
    return _vector(np.clip(values, 0.0, 1.0))
