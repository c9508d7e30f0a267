"""The ray caster: one ray a pixel, nearest surface wins, so masks and depth show true occlusion.

A lamp under the middle of the ceiling lights every surface by its angle; objects cast no shadows. Hence taking an
object away changes exactly the pixels of its mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stepladder.data.rooms.arrays import Bytes, Floats, Ints, Mask, Vector
from stepladder.data.rooms.camera import Camera
from stepladder.data.rooms.scene import Scene

_AMBIENT, _DIFFUSE = 0.5, 0.55


@dataclass(frozen=True)
class Shot:
    """What a camera sees.

    Attributes:
        rgb: [height, width, 3], 0..255.
        depth: [height, width], metres along the optical axis.
        uids: [height, width], uid of the object seen in each pixel, 0 for the room.
    """

    rgb: Bytes
    depth: Floats
    uids: Ints

    def mask(self, uid: int) -> Mask:
        """Pixels [height, width] in which the object is seen."""
        mask: Mask = self.uids == uid
        return mask


def render(scene: Scene, camera: Camera, width: int, height: int) -> Shot:
    """The view of a camera, `width` x `height` pixels."""
    rgb, depth, uids = _cast(scene, camera.position, camera.rays(width, height))
    return Shot(rgb.reshape(height, width, 3), depth.reshape(height, width), uids.reshape(height, width))


def render_without(scene: Scene, camera: Camera, shot: Shot, uid: int) -> Shot:
    """The same view with one object taken away; casts again only the rays that met it."""
    height, width = shot.uids.shape
    mask = shot.mask(uid)
    rgb, depth, uids = shot.rgb.copy(), shot.depth.copy(), shot.uids.copy()
    rays = camera.rays(width, height)[mask.ravel()]
    rgb[mask], depth[mask], uids[mask] = _cast(scene.without(uid), camera.position, rays)
    return Shot(rgb, depth, uids)


def _cast(scene: Scene, origin: Vector, rays: Floats) -> tuple[Bytes, Floats, Ints]:
    """Colour [n, 3], distance [n] and uid [n] of what rays [n, 3] meet first."""
    nearest, faces = scene.room.hit(origin, rays)
    owner = np.full(len(rays), -1)
    for index, item in enumerate(scene.items):
        distance = item.shape.distance(origin, rays)
        closer = distance < nearest
        nearest[closer], owner[closer] = distance[closer], index
    points = np.array(origin) + nearest[:, None] * rays
    colors, normals, uids = np.empty_like(points), np.empty_like(points), np.zeros(len(rays), dtype=np.int64)
    wall = owner == -1
    colors[wall] = scene.room.colors(points[wall], faces[wall])
    normals[wall] = scene.room.normals(faces[wall])
    for index, item in enumerate(scene.items):
        own = owner == index
        colors[own], normals[own], uids[own] = item.color, item.shape.normals(points[own]), item.uid
    return _light(scene, points, colors, normals), nearest, uids


def _light(scene: Scene, points: Floats, colors: Floats, normals: Floats) -> Bytes:
    width, depth, height = scene.room.size
    towards = np.array((width / 2, depth / 2, height - 0.1)) - points
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    facing = np.clip(np.einsum("ij,ij->i", normals, towards), 0.0, 1.0)
    lit = colors * (_AMBIENT + _DIFFUSE * facing)[:, None]
    rgb: Bytes = np.round(np.clip(lit, 0.0, 1.0) * 255).astype(np.uint8)
    return rgb
