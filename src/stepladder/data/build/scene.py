"""What is known of one scene: its objects, their views, its frames, and where an object is known not to be seen.

All paths are relative to the root of the layout, with `/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

#: The tiers of negatives, easy to hard; see `pairs`.
TIERS = ("tierA", "tierB", "tierC")

#: What a negative within a scene rests on: an empty mask of the object's own, the scene's visibility file, a picture
#: from which the object was removed, or that the object's list does not name the frame.
MASK, VISIBILITY, INPAINTED, UNLISTED = "mask", "visibility", "inpainted", "unlisted"

#: Tier -> what it rests on -> frame ids.
Absences = Mapping[str, Mapping[str, tuple[str, ...]]]


@dataclass(frozen=True)
class View:
    """A view that shows an object.

    Attributes:
        original, mask: its files.
        marked: the view with the object outlined.
        is_marked: whether the layout has that file; it is made otherwise.
        depth: where it was asked for.
        width, height: of original and mask, pixels.
        area: pixels of the mask.
        point: x and y in [0, 1] of the point that stands for the object.
    """

    original: str
    mask: str
    marked: str
    is_marked: bool
    depth: str | None
    width: int
    height: int
    area: int
    point: tuple[float, float]


@dataclass(frozen=True)
class Frame:
    """A camera's picture, whichever objects it shows.

    Attributes:
        original: its file.
        depth: where it was asked for.
        width, height: pixels.
        labels: labels of all objects that are known to be in it.
    """

    original: str
    depth: str | None
    width: int
    height: int
    labels: frozenset[str]


@dataclass(frozen=True)
class Scene:
    """Attributes:
    scene_id: name of the scene's folder.
    labels: uid -> label of the objects that samples may ask for.
    views: uid -> frame id -> view, for the same objects; a view shows its object.
    frames: frame id -> frame, for all frames of the scene.
    shown: ids of the frames that are a view of at least one of the objects, sorted.
    absent: uid -> where the object is known not to be seen, by tier.
    inpainted: uid -> frame id -> the view with the object removed, of frames that are absent on that ground.
    """

    scene_id: str
    labels: dict[int, str]
    views: dict[int, dict[str, View]]
    frames: dict[str, Frame]
    shown: tuple[str, ...]
    absent: dict[int, Absences]
    inpainted: dict[int, dict[str, str]]

    def to_json(self) -> dict[str, Any]:
        """As JSON has it; `from_json` reads it back."""
        frames = {frame_id: asdict(frame) | {"labels": sorted(frame.labels)} for frame_id, frame in self.frames.items()}
        return asdict(self) | {"frames": frames}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Scene:
        """A scene that `to_json` wrote."""
        return cls(
            scene_id=data["scene_id"],
            labels={int(uid): label for uid, label in data["labels"].items()},
            views={int(uid): {f: _view(view) for f, view in views.items()} for uid, views in data["views"].items()},
            frames={f: Frame(**frame | {"labels": frozenset(frame["labels"])}) for f, frame in data["frames"].items()},
            shown=tuple(data["shown"]),
            absent={int(uid): _absences(tiers) for uid, tiers in data["absent"].items()},
            inpainted={int(uid): pictures for uid, pictures in data["inpainted"].items()},
        )


def _view(data: dict[str, Any]) -> View:
    return View(**data | {"point": tuple(data["point"])})


def _absences(data: Mapping[str, Any]) -> Absences:
    return {tier: {basis: tuple(frames) for basis, frames in bases.items()} for tier, bases in data.items()}
