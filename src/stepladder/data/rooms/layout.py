"""One scene on disk, in the folders and files of the reference curriculum.

`{split}/{scene}/uid_{uid}/` holds up to five views of one object. Besides the reference's files each view has a
`_marked.png`, the original with the object outlined. `{split}/{scene}/other/` holds the frames of the scene that are
among no object's views; hard negatives need them, and `visibility.json`, which knows what each frame shows.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stepladder.data.build import marking, points
from stepladder.data.build.visibility import Sight, Visibility, write_visibility
from stepladder.data.rooms import images
from stepladder.data.rooms.arrays import Mask
from stepladder.data.rooms.camera import Camera
from stepladder.data.rooms.render import Shot, render, render_without
from stepladder.data.rooms.scene import Item, Scene, make_cameras, make_scene
from stepladder.data.rooms.settings import Settings

VIEWS = 5  # of one object, at most
_MIN_VIEWS = 2
_MIN_SHARE = 0.004  # of the image that an object fills where it counts as visible

#: A frame whose optical axis passes an object at less than this angle looks towards it: the camera's half field of
#: view and 20 degrees.
TOWARDS = math.radians(52.5)

Png = tuple[bytes, bytes]  # of a frame: RGB and depth, encoded once for all its copies


@dataclass(frozen=True)
class _Footage:
    """A scene with what its cameras see, by frame id."""

    scene_id: str
    scene: Scene
    cameras: dict[str, Camera]
    shots: dict[str, Shot]
    encoded: dict[str, Png]


def write_scene(root: Path, split: str, index: int, settings: Settings) -> str:
    """Draw, render and write scene number `index` (its own seed); returns its folder, `split`/`scene`."""
    scene_id = hashlib.sha256(f"rooms {settings.seed} {index}".encode()).hexdigest()[:10]
    folder = f"{split}/{scene_id}"
    footage = _film(scene_id, np.random.default_rng([settings.seed, index]), settings)
    listed: set[str] = set()
    for item in footage.scene.items:
        chosen = _choose_frames(item, footage, np.random.default_rng([settings.seed, index, item.uid]))
        if chosen:
            _write_object(root / folder / f"uid_{item.uid}", item, footage, chosen)
            listed.update(chosen)
    others = _write_others(root, folder, footage, listed)
    write_visibility(root, folder, _visibility(footage, others))
    return folder


def _film(scene_id: str, rng: np.random.Generator, settings: Settings) -> _Footage:
    scene = make_scene(rng)
    cameras = {f"{index * 10:06d}": camera for index, camera in enumerate(make_cameras(rng, scene))}
    shots = {frame: render(scene, camera, settings.width, settings.height) for frame, camera in cameras.items()}
    encoded = {frame: (marking.encode_png(shot.rgb), images.encode_depth(shot.depth)) for frame, shot in shots.items()}
    return _Footage(scene_id, scene, cameras, shots, encoded)


def _choose_frames(item: Item, footage: _Footage, rng: np.random.Generator) -> list[str]:
    """Up to `VIEWS` frames that show the object well, in order; none for furniture and for what hardly any shows."""
    good = [frame for frame, shot in footage.shots.items() if shot.mask(item.uid).mean() >= _MIN_SHARE]
    if item.is_furniture or len(good) < _MIN_VIEWS:
        return []
    return sorted(rng.permutation(good)[:VIEWS].tolist())


def _write_object(folder: Path, item: Item, footage: _Footage, frames: list[str]) -> None:
    """Write an object's views and their description into its folder."""
    folder.mkdir(parents=True)
    rows = []
    for rank, frame in enumerate(frames, 1):
        stem, mask = f"{rank:02d}_{frame}", footage.shots[frame].mask(item.uid)
        _write_images(folder, stem, item, footage, frame, mask)
        rows.append(_describe(footage.scene_id, item, frame, stem, mask))
    (folder / f"{footage.scene_id}_uid_{item.uid}_five_frames.json").write_text(json.dumps(rows, indent=1) + "\n")


def _write_images(folder: Path, stem: str, item: Item, footage: _Footage, frame: str, mask: Mask) -> None:
    shot = footage.shots[frame]
    original, depth = footage.encoded[frame]
    inpainted = render_without(footage.scene, footage.cameras[frame], shot, item.uid)
    wide = marking.dilate(mask, max(2, round(len(mask) / 30)))
    files = {
        "original": original,
        "depth": depth,
        "inpainted": marking.encode_png(inpainted.rgb),
        "mask": images.encode_mask(mask),
        "mask_dialated": images.encode_mask(wide),  # spelled so in the reference layout
        "marked": marking.encode_png(marking.mark(shot.rgb, mask)),
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


def _write_others(root: Path, folder: str, footage: _Footage, listed: set[str]) -> dict[str, tuple[str, str]]:
    """Write the frames that are no object's view below `other`; returns original and depth by frame id."""
    others = {}
    for frame, pictures in footage.encoded.items():
        if frame in listed:
            continue
        paths = f"{folder}/other/{frame}_original.png", f"{folder}/other/{frame}_depth.png"
        for path, data in zip(paths, pictures, strict=True):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        others[frame] = paths
    return others


def _visibility(footage: _Footage, others: dict[str, tuple[str, str]]) -> Visibility:
    """Which objects each frame shows, and towards which of those that it does not show it looks."""
    frames = {}
    for frame, shot in footage.shots.items():
        uids, counts = np.unique(shot.uids, return_counts=True)
        pixels = {uid: count for uid, count in zip(uids.tolist(), counts.tolist(), strict=True) if uid}
        camera = footage.cameras[frame]
        absent = [item for item in footage.scene.items if item.uid not in pixels]
        towards = frozenset(item.uid for item in absent if camera.bearing(item.center) < TOWARDS)
        frames[frame] = Sight(pixels, towards, *others.get(frame, ()))
    return Visibility({item.uid: item.label for item in footage.scene.items}, frames)
