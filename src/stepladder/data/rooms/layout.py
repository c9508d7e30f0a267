"""One scene on disk, in the folders and files of the reference curriculum.

`{split}/{scene}/uid_{uid}/` holds up to five views of one object. Besides the reference's files each view has a
`_marked.png`, the original with the object outlined. `{split}/{scene}/other/` holds the frames of the scene that are
among no object's views; hard negatives need them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stepladder.data.rooms import images, points
from stepladder.data.rooms.arrays import Mask
from stepladder.data.rooms.camera import Camera
from stepladder.data.rooms.render import Shot, render, render_without
from stepladder.data.rooms.scene import Item, Scene, make_cameras, make_scene
from stepladder.data.rooms.settings import Settings

VIEWS = 5  # of one object, at most
_MIN_VIEWS = 2
_MIN_SHARE = 0.004  # of the image that an object fills where it counts as visible

Png = tuple[bytes, bytes]  # of a frame: RGB and depth, encoded once for all its copies


@dataclass(frozen=True)
class View:
    """One of an object's views; paths are relative to the data set's root.

    Attributes:
        area: pixels of the object's mask.
        point: x and y in [0, 1] of the point that stands for the object.
    """

    original: str
    marked: str
    depth: str
    mask: str
    area: int
    point: tuple[float, float]


@dataclass(frozen=True)
class Frame:
    """What one camera of a scene sees; paths are relative to the data set's root.

    Attributes:
        labels: labels of all objects with at least one pixel.
        bearings: uid of each object without any pixel -> angle in radians between the optical axis and the object.
    """

    original: str
    depth: str
    labels: frozenset[str]
    bearings: dict[int, float]


@dataclass(frozen=True)
class SceneRecord:
    """What was written of one scene.

    Attributes:
        labels: uid -> label, of the objects that samples may ask for.
        views: uid -> frame id -> view, for the same objects.
        frames: frame id -> frame, for all cameras.
    """

    scene_id: str
    split: str
    labels: dict[int, str]
    views: dict[int, dict[str, View]]
    frames: dict[str, Frame]


@dataclass(frozen=True)
class _Footage:
    """A scene with what its cameras see, by frame id."""

    scene_id: str
    scene: Scene
    cameras: dict[str, Camera]
    shots: dict[str, Shot]
    encoded: dict[str, Png]


def write_scene(root: Path, split: str, index: int, settings: Settings) -> SceneRecord:
    """Draw, render and write scene number `index` (its own seed) below `root`/`split`."""
    scene_id = hashlib.sha256(f"rooms {settings.seed} {index}".encode()).hexdigest()[:10]
    footage = _film(scene_id, np.random.default_rng([settings.seed, index]), settings)
    labels: dict[int, str] = {}
    views: dict[int, dict[str, View]] = {}
    for item in footage.scene.items:
        rng = np.random.default_rng([settings.seed, index, item.uid])
        chosen = _choose_frames(item, footage, rng)
        if chosen:
            name = f"{split}/{scene_id}/uid_{item.uid}"
            labels[item.uid] = item.label
            views[item.uid] = _write_object(root, name, item, footage, chosen, settings.point_rule, rng)
    frames = _write_frames(root, f"{split}/{scene_id}/other", footage, views)
    return SceneRecord(scene_id, split, labels, views, frames)


def _film(scene_id: str, rng: np.random.Generator, settings: Settings) -> _Footage:
    scene = make_scene(rng)
    cameras = {f"{index * 10:06d}": camera for index, camera in enumerate(make_cameras(rng, scene))}
    shots = {frame: render(scene, camera, settings.width, settings.height) for frame, camera in cameras.items()}
    encoded = {frame: (images.encode_rgb(shot.rgb), images.encode_depth(shot.depth)) for frame, shot in shots.items()}
    return _Footage(scene_id, scene, cameras, shots, encoded)


def _choose_frames(item: Item, footage: _Footage, rng: np.random.Generator) -> list[str]:
    """Up to `VIEWS` frames that show the object well, in order; none for furniture and for what hardly any shows."""
    good = [frame for frame, shot in footage.shots.items() if shot.mask(item.uid).mean() >= _MIN_SHARE]
    if item.is_furniture or len(good) < _MIN_VIEWS:
        return []
    return sorted(rng.permutation(good)[:VIEWS].tolist())


def _write_object(
    root: Path, name: str, item: Item, footage: _Footage, frames: list[str], rule: str, rng: np.random.Generator
) -> dict[str, View]:
    """Write an object's views and their description into its folder, `root`/`name`; returns the views by frame id."""
    folder = root / name
    folder.mkdir(parents=True)
    views, rows = {}, []
    for rank, frame in enumerate(frames, 1):
        stem, mask = f"{rank:02d}_{frame}", footage.shots[frame].mask(item.uid)
        _write_images(folder, stem, item, footage, frame, mask)
        height, width = mask.shape
        views[frame] = View(
            original=f"{name}/{stem}_original.png",
            marked=f"{name}/{stem}_marked.png",
            depth=f"{name}/{stem}_depth.png",
            mask=f"{name}/{stem}_mask.png",
            area=int(mask.sum()),
            point=points.normalize(*points.find_point(mask, rule, rng), width, height),
        )
        rows.append(_describe(footage.scene_id, item, frame, stem, mask))
    (folder / f"{footage.scene_id}_uid_{item.uid}_five_frames.json").write_text(json.dumps(rows, indent=1) + "\n")
    return views


def _write_images(folder: Path, stem: str, item: Item, footage: _Footage, frame: str, mask: Mask) -> None:
    shot = footage.shots[frame]
    original, depth = footage.encoded[frame]
    inpainted = render_without(footage.scene, footage.cameras[frame], shot, item.uid)
    wide = images.dilate(mask, max(2, round(len(mask) / 30)))
    files = {
        "original": original,
        "depth": depth,
        "inpainted": images.encode_rgb(inpainted.rgb),
        "mask": images.encode_mask(mask),
        "mask_dialated": images.encode_mask(wide),  # spelled so in the reference layout
        "marked": images.encode_rgb(images.mark(shot.rgb, mask)),
    }
    for name, data in files.items():
        (folder / f"{stem}_{name}.png").write_bytes(data)


def _describe(scene_id: str, item: Item, frame: str, stem: str, mask: Mask) -> dict[str, Any]:
    """One entry of the five-frames file: box in pixels (inclusive), its centre in [0, 1], file names beside it."""
    height, width = mask.shape
    x0, y0, x1, y1 = points.bounding_box(mask)
    cx, cy = points.normalize((x0 + x1) / 2, (y0 + y1) / 2, width, height)
    return {
        "scene_id": scene_id,
        "uid": item.uid,
        "frame_id": frame,
        "label": item.label,
        "img_w": width,
        "img_h": height,
        "x0": x0,
        "y0": y0,
        "x1": x1,
        "y1": y1,
        "cx_norm": round(cx, 6),
        "cy_norm": round(cy, 6),
        "original": f"{stem}_original.png",
        "inpainted": f"{stem}_inpainted.png",
        "mask": f"{stem}_mask.png",
    }


def _write_frames(root: Path, other: str, footage: _Footage, views: dict[int, dict[str, View]]) -> dict[str, Frame]:
    """Name each frame's files: those of the first object that has it among its views, else new ones below `other`."""
    frames = {}
    for frame, shot in footage.shots.items():
        view = next((found[frame] for found in views.values() if frame in found), None)
        if view is not None:
            original, depth = view.original, view.depth
        else:
            original, depth = f"{other}/{frame}_original.png", f"{other}/{frame}_depth.png"
            (root / other).mkdir(parents=True, exist_ok=True)
            for path, data in zip((original, depth), footage.encoded[frame], strict=True):
                (root / path).write_bytes(data)
        seen = set(np.unique(shot.uids).tolist())
        labels = frozenset(item.label for item in footage.scene.items if item.uid in seen)
        absent = [item for item in footage.scene.items if item.uid not in seen]
        bearings = {item.uid: footage.cameras[frame].bearing(item.center) for item in absent}
        frames[frame] = Frame(original, depth, labels, bearings)
    return frames
