"""A scene's visibility file: which frames show which objects, where the five views of an object cannot say it.

`{split}/{scene}/visibility.json`:

    {"objects": {"3": "red box", "4": "green sphere"},
     "frames": {"000120": {"pixels": {"3": 512}, "towards": [4], "original": "other/000120_original.png"}}}

`objects` names every object that the file speaks of, with its label. In a frame, `pixels` has how many pixels of each
of them are seen; one that is not named has none. `towards` lists objects that the frame looks towards although it does
not show them: they are hidden, or just out of the picture. `original` and `depth`, relative to the scene's folder, are
needed only for frames that are no listed view.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stepladder.data.build.files import DamagedError
from stepladder.data.build.layout import path_within, read_json

NAME = "visibility.json"


@dataclass(frozen=True)
class Sight:
    """What is known of one frame.

    Attributes:
        pixels: uid -> pixels of the object that are seen; objects that are not named have none.
        towards: uids of unseen objects that the frame looks towards.
        original, depth: the frame's pictures, relative to the root, or None.
    """

    pixels: Mapping[int, int]
    towards: frozenset[int] = frozenset()
    original: str | None = None
    depth: str | None = None


@dataclass(frozen=True)
class Visibility:
    """`objects`: uid -> label of the objects it speaks of; `frames`: frame id -> what is known of it."""

    objects: Mapping[int, str] = field(default_factory=dict)
    frames: Mapping[str, Sight] = field(default_factory=dict)

    def pixels(self, uid: int, frame_id: str) -> int | None:
        """Pixels of an object in a frame; None if not known."""
        if uid not in self.objects or frame_id not in self.frames:
            return None
        return self.frames[frame_id].pixels.get(uid, 0)


def read_visibility(root: Path, scene: str) -> Visibility:
    """The visibility of the scene in the folder `scene`; knows nothing if there is no file. Raises DamagedError."""
    name = f"{scene}/{NAME}"
    if not (root / name).exists():
        return Visibility()
    data = read_json(root, name)
    try:
        objects = {int(uid): str(label) for uid, label in data["objects"].items()}
        frames = {str(frame_id): _sight(name, scene, frame, objects) for frame_id, frame in data["frames"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedError(name, f"not a visibility file: {type(error).__name__} {error}") from None
    return Visibility(objects, frames)


def write_visibility(root: Path, scene: str, visibility: Visibility) -> None:
    """Write the visibility file of the scene in the folder `scene`; paths of frames are given relative to the root."""
    frames = {}
    for frame_id, sight in visibility.frames.items():
        frame: dict[str, Any] = {"pixels": dict(sight.pixels), "towards": sorted(sight.towards)}
        for key, path in (("original", sight.original), ("depth", sight.depth)):
            if path is not None:
                frame[key] = path.removeprefix(f"{scene}/")
        frames[frame_id] = frame
    data = {"objects": dict(visibility.objects), "frames": frames}
    (root / scene / NAME).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _sight(file: str, scene: str, data: Mapping[str, Any], objects: Mapping[int, str]) -> Sight:
    pixels = {int(uid): int(count) for uid, count in data["pixels"].items()}
    towards = frozenset(map(int, data.get("towards", ())))
    unknown = sorted((pixels.keys() | towards) - objects.keys())
    if unknown:
        raise DamagedError(file, f"a frame names object {unknown[0]}, which is not among `objects`")
    paths = {key: path_within(file, scene, data[key]) for key in ("original", "depth") if data.get(key) is not None}
    return Sight(pixels, towards, paths.get("original"), paths.get("depth"))
