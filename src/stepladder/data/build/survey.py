"""Reads one scene of the layout: every mask measured, every picture decoded, everything damaged named.

An object is taken to be seen, or not to be seen, in a frame only where something says so: a mask of its own, the
scene's visibility file, or (where the settings allow it) its list. What cannot be read is not known, so it makes
neither a positive nor a negative.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from stepladder.data.build import points, scene
from stepladder.data.build.files import DamagedError, LeftOut, read_grey, read_mask, read_rgb
from stepladder.data.build.layout import Listed, five_frames_name, object_folders, read_listing
from stepladder.data.build.marking import has_mark
from stepladder.data.build.scene import Frame, Scene, View
from stepladder.data.build.settings import Settings
from stepladder.data.build.visibility import NAME as VISIBILITY_NAME
from stepladder.data.build.visibility import Sight, Visibility, read_visibility

MIN_VIEWS = 2


@dataclass
class _Found:
    """What has been read of a scene so far.

    Attributes:
        folder: `{split}/{scene}`.
        listed: uid -> frame id -> entry of its five-frames file.
        views: uid -> frame id -> view; None where the mask is empty or smaller than the settings ask for.
            An entry without a view here was left out.
        visibility: of the scene's file.
        frames: frame id -> original, depth, width and height.
        left_out: what cannot be used.
    """

    folder: str
    listed: dict[int, dict[str, Listed]] = field(default_factory=dict)
    views: dict[int, dict[str, View | None]] = field(default_factory=dict)
    visibility: Visibility = field(default_factory=Visibility)
    frames: dict[str, tuple[str, str | None, int, int]] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)

    def leave_out(self, error: DamagedError, what: str) -> None:
        self.left_out.append(LeftOut(error.file, what, error.why))


def survey_scene(root: Path, folder: str, settings: Settings) -> tuple[Scene, list[LeftOut]]:
    """What the scene in `folder` (`{split}/{scene}`) has, and what of it cannot be used and why."""
    found = _Found(folder)
    for uid, name in object_folders(root, folder).items():
        _survey_object(root, found, name, uid, settings)
    _survey_other_frames(root, found, settings)
    usable = _usable(found)
    seen = {uid: {f: view for f, view in views.items() if view is not None} for uid, views in found.views.items()}
    shown = tuple(sorted({frame_id for views in seen.values() for frame_id in views}))
    labels = _labels(found)
    return Scene(
        scene_id=folder.split("/")[-1],
        labels={uid: next(iter(found.listed[uid].values())).label for uid in usable},
        views={uid: seen[uid] for uid in usable},
        frames={f: Frame(*found.frames[f], frozenset(labels[f])) for f in sorted(found.frames)},
        shown=shown,
        absent={uid: _absences(found, uid, set(shown), settings) for uid in usable},
        inpainted={uid: _inpainted(found.listed[uid], seen[uid], settings) for uid in usable},
    ), found.left_out


def _survey_object(root: Path, found: _Found, folder: str, uid: int, settings: Settings) -> None:
    try:
        found.listed[uid] = {entry.frame_id: entry for entry in read_listing(root, folder, uid)}
    except DamagedError as error:
        found.leave_out(error, f"object {uid}")
        return
    found.views[uid] = {}
    for frame_id, entry in found.listed[uid].items():
        try:
            view = _measure(root, entry, uid, found.folder, settings)
        except DamagedError as error:
            found.leave_out(error, f"view {frame_id} of object {uid}")
            continue
        found.views[uid][frame_id] = view
        depth = entry.depth if settings.depth else None
        found.frames.setdefault(frame_id, (entry.original, depth, entry.width, entry.height))


def _measure(root: Path, entry: Listed, uid: int, folder: str, settings: Settings) -> View | None:
    """A listed view with its files read; None if it does not show the object. Raises DamagedError."""
    size = entry.width, entry.height
    for name in (entry.original, *([entry.inpainted] if settings.inpainted and entry.inpainted else [])):
        _expect_size(name, read_rgb(root, name).shape, size)
    mask = read_mask(root, entry.mask)
    _expect_size(entry.mask, mask.shape, size)
    if settings.depth:
        read_grey(root, entry.depth)
    area = int(mask.sum())
    if area < settings.min_area:
        return None
    rng = _generator(settings.seed, folder, uid, entry.frame_id)
    return View(
        original=entry.original,
        mask=entry.mask,
        marked=entry.marked,
        is_marked=_is_marked(root, entry, size),
        depth=entry.depth if settings.depth else None,
        width=entry.width,
        height=entry.height,
        area=area,
        point=points.normalize(*points.find_point(mask, settings.point_rule, rng), *size),
    )


def _is_marked(root: Path, entry: Listed, size: tuple[int, int]) -> bool:
    """Whether there is a marked view beside the original, in the colour that the question speaks of."""
    if not (root / entry.marked).exists():
        return False
    rgb = read_rgb(root, entry.marked)
    _expect_size(entry.marked, rgb.shape, size)
    return has_mark(rgb)


def _survey_other_frames(root: Path, found: _Found, settings: Settings) -> None:
    """Read the visibility file, and the frames that only it names."""
    try:
        found.visibility = read_visibility(root, found.folder)
    except DamagedError as error:
        found.leave_out(error, f"what {VISIBILITY_NAME} says of its scene")
        return
    for frame_id, sight in found.visibility.frames.items():
        if frame_id in found.frames or sight.original is None:
            continue
        try:
            height, width = read_rgb(root, sight.original).shape[:2]
            if settings.depth:
                _read_depth(root, found.folder, sight)
        except DamagedError as error:
            found.leave_out(error, f"frame {frame_id}")
            continue
        found.frames[frame_id] = sight.original, sight.depth if settings.depth else None, width, height


def _read_depth(root: Path, folder: str, sight: Sight) -> None:
    if sight.depth is None:
        raise DamagedError(f"{folder}/{VISIBILITY_NAME}", f"gives no depth for {sight.original}")
    read_grey(root, sight.depth)


def _usable(found: _Found) -> list[int]:
    """uids of the objects with enough views; the others are left out."""
    usable = []
    for uid, views in found.views.items():
        if len(views) >= MIN_VIEWS:
            usable.append(uid)
            continue
        name = five_frames_name(f"{found.folder}/uid_{uid}", uid)
        listed = len(found.listed[uid])
        why = f"has {len(views)} usable of {listed} listed views, expected at least {MIN_VIEWS}"
        found.left_out.append(LeftOut(name, f"object {uid}", why))
    return usable


def _inpainted(listed: Mapping[str, Listed], seen: Iterable[str], settings: Settings) -> dict[str, str]:
    """Frame id -> the picture from which the object was removed, of the frames that show it, where asked for."""
    pictures = {frame_id: listed[frame_id].inpainted for frame_id in seen} if settings.inpainted else {}
    return {frame_id: picture for frame_id, picture in pictures.items() if picture}


def _labels(found: _Found) -> dict[str, set[str]]:
    """Frame id -> labels of all objects that may be in it: whatever is known to have a pixel there, or is unclear."""
    labels: dict[str, set[str]] = defaultdict(set)
    for uid, entries in found.listed.items():
        for frame_id, entry in entries.items():
            if frame_id not in found.views[uid] or found.views[uid][frame_id] is not None:
                labels[frame_id].add(entry.label)
    for frame_id, sight in found.visibility.frames.items():
        labels[frame_id] |= {found.visibility.objects[uid] for uid, count in sight.pixels.items() if count}
    return labels


def _absences(found: _Found, uid: int, shown: set[str], settings: Settings) -> scene.Absences:
    absences: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for frame_id, tier, basis in _absent(found, uid, shown, settings):
        absences[tier][basis].append(frame_id)
    return {tier: {basis: tuple(ids) for basis, ids in bases.items()} for tier, bases in absences.items()}


def _absent(found: _Found, uid: int, shown: set[str], settings: Settings) -> Iterator[tuple[str, str, str]]:
    """(frame id, tier, what it rests on) of every frame that serves as a negative of an object."""
    _, tier_b, tier_c = scene.TIERS
    listed, views = found.listed[uid], found.views[uid]
    for frame_id in sorted(found.frames):
        pixels = found.visibility.pixels(uid, frame_id)
        known_seen = pixels is not None and pixels >= settings.min_area
        if frame_id in listed:
            if frame_id not in views:
                continue
            if views[frame_id] is None and not known_seen:
                yield frame_id, tier_c, scene.MASK
            elif views[frame_id] is not None and settings.inpainted and listed[frame_id].inpainted:
                yield frame_id, tier_c, scene.INPAINTED
        elif known_seen:
            continue
        elif pixels is not None:
            if uid in found.visibility.frames[frame_id].towards:
                yield frame_id, tier_c, scene.VISIBILITY
            elif frame_id in shown:
                yield frame_id, tier_b, scene.VISIBILITY
        elif settings.unlisted == "absent" and frame_id in shown:
            yield frame_id, tier_b, scene.UNLISTED


def _expect_size(name: str, shape: tuple[int, ...], size: tuple[int, int]) -> None:
    if (shape[1], shape[0]) != size:
        raise DamagedError(name, f"is {shape[1]} x {shape[0]} pixels, expected {size[0]} x {size[1]} as its entry says")


def _generator(seed: int, *names: str | int) -> np.random.Generator:
    digest = hashlib.sha256(json.dumps([seed, *names]).encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, dtype=np.uint32))
