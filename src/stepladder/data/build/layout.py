"""The five-frames layout: which views an object's folder lists, and which files they are.

`{split}/{scene}/uid_{uid}/{scene}_uid_{uid}_five_frames.json` is a list of views; the file names in it are relative to
its folder. Besides the files it names, a view may have `_depth` and `_marked` beside its `_original`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepladder.data.build.files import DamagedError, true_file

_FOLDER = re.compile(r"uid_(\d+)")
_ORIGINAL = re.compile(r"(_original)?(\.\w+)?$")


@dataclass(frozen=True)
class Listed:
    """One entry of a five-frames file; paths are relative to the root, and nothing is known of the files yet.

    Attributes:
        frame_id: the camera's frame.
        label: what the object is called.
        width, height: pixels, as the entry says.
        original, mask: file names of the entry.
        inpainted: file name of the entry, or None.
        depth: the entry's, or where it would be.
        marked: where it would be.
    """

    frame_id: str
    label: str
    width: int
    height: int
    original: str
    mask: str
    inpainted: str | None
    depth: str
    marked: str


def scene_folders(root: Path, split: str) -> list[str]:
    """`{split}/{scene}` of every scene that has an object's folder, sorted."""
    return sorted(f"{split}/{path.name}" for path in (root / split).iterdir() if path.is_dir() and _objects(path))


def object_folders(root: Path, scene: str) -> dict[int, str]:
    """uid -> the object's folder, relative to the root, in the order of uids."""
    return {uid: f"{scene}/{name}" for uid, name in sorted(_objects(root / scene).items())}


def five_frames_name(folder: str, uid: int) -> str:
    """The five-frames file of an object's folder, both relative to the root."""
    return f"{folder}/{folder.split('/')[-2]}_uid_{uid}_five_frames.json"


def read_listing(root: Path, folder: str, uid: int) -> list[Listed]:
    """The views that an object's five-frames file lists, sorted by frame id; raises DamagedError."""
    name = five_frames_name(folder, uid)
    entries = read_json(root, name)
    if not isinstance(entries, list) or not entries:
        raise DamagedError(name, f"found {_kind(entries)}, expected a list of views")
    listed = [_listed(name, folder, uid, place, entry) for place, entry in enumerate(entries)]
    ids = [view.frame_id for view in listed]
    twice = sorted({frame_id for frame_id in ids if ids.count(frame_id) > 1})
    if twice:
        raise DamagedError(name, f"lists frame {', '.join(twice)} more than once")
    labels = sorted({view.label for view in listed})
    if len(labels) > 1:
        raise DamagedError(name, f"found the labels {', '.join(labels)}, expected one")
    return sorted(listed, key=lambda view: view.frame_id)


def read_json(root: Path, name: str) -> Any:
    """A JSON file of the layout; raises DamagedError."""
    try:
        return json.loads(true_file(root, name).read_text("utf-8"))
    except FileNotFoundError:
        raise DamagedError(name, "missing") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DamagedError(name, f"not readable as JSON: {error}") from None


def path_within(file: str, folder: str, name: str) -> str:
    """`name`, which `file` gives relative to `folder`, relative to the root; raises DamagedError if it lies outside."""
    path = os.path.normpath(f"{folder}/{name}")
    if name.startswith("/") or path.split("/")[0] == ".." or "\0" in name:
        raise DamagedError(file, f"names {name!r}, which lies outside the data's folder")
    return path


def _objects(scene: Path) -> dict[int, str]:
    matches = (_FOLDER.fullmatch(path.name) for path in scene.iterdir() if path.is_dir())
    return {int(match[1]): match[0] for match in matches if match}


def _listed(file: str, folder: str, uid: int, place: int, entry: Any) -> Listed:
    where = f"entry {place}"
    if not isinstance(entry, dict):
        raise DamagedError(file, f"{where}: found {_kind(entry)}, expected an object")
    scene = folder.split("/")[-2]
    for key, expected in (("scene_id", scene), ("uid", uid)):
        if str(entry.get(key, expected)) != str(expected):
            raise DamagedError(file, f"{where}: found {key} {entry[key]!r}, expected {expected!r} as its folder says")
    width, height = (_pixels(file, where, entry, key) for key in ("img_w", "img_h"))
    original = path_within(file, folder, _text(file, where, entry, "original"))
    depth = entry.get("depth")
    return Listed(
        frame_id=_text(file, where, entry, "frame_id"),
        label=_text(file, where, entry, "label"),
        width=width,
        height=height,
        original=original,
        mask=path_within(file, folder, _text(file, where, entry, "mask")),
        inpainted=path_within(file, folder, _text(file, where, entry, "inpainted")) if "inpainted" in entry else None,
        depth=path_within(file, folder, _text(file, where, entry, "depth")) if depth else _beside(original, "depth"),
        marked=_beside(original, "marked"),
    )


def _beside(original: str, kind: str) -> str:
    """The file of another kind, always a PNG, that belongs to an original."""
    return _ORIGINAL.sub(f"_{kind}.png", original, count=1)


def _text(file: str, where: str, entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise DamagedError(file, f"{where}: found {key} {value!r}, expected text")
    return value


def _pixels(file: str, where: str, entry: Mapping[str, Any], key: str) -> int:
    value = entry.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 2:
        raise DamagedError(file, f"{where}: found {key} {value!r}, expected a number of pixels, at least 2")
    return value


def _kind(value: Any) -> str:
    return "an empty list" if value == [] else type(value).__name__
