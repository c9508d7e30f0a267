"""Pairs of views as training samples: one JSON object each, as the reference curriculum has them.

Paths are those of the layout: relative to its root, and to the folder of the file that the samples are written to. The
`<image>` placeholders are left to the loader.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stepladder.data.answers import NOT_VISIBLE, format_point
from stepladder.data.build.concat import SideBySide
from stepladder.data.build.marking import MARK_NAME
from stepladder.data.build.pairs import Pair
from stepladder.data.build.scene import INPAINTED, Frame, View

_ANSWER = "Answer with one point [(x, y)], where x and y are between 0 and 1, or with NOT_VISIBLE."

QUESTION = (
    f"The first image shows a room with one object outlined in {MARK_NAME}. Point at the same object in the second "
    f"image. {_ANSWER}"
)
JOINED_QUESTION = (
    f"The left image shows a room with one object outlined in {MARK_NAME}. Point at the same object in the right "
    f"image. {_ANSWER} x and y are counted over the whole picture."
)


def target_view(pair: Pair) -> View | None:
    """The object's view that image B is; None for a negative."""
    return None if pair.tier else pair.b.views[pair.uid][pair.frame_b]


def picture_b(pair: Pair) -> View | Frame:
    """The view or frame that image B is of."""
    return target_view(pair) or pair.b.frames[pair.frame_b]


def original_b(pair: Pair) -> str:
    """The file of image B."""
    inpainted = pair.a.inpainted[pair.uid][pair.frame_b] if pair.basis == INPAINTED else None
    return inpainted or picture_b(pair).original


def name_of(pair: Pair) -> str:
    """The sample's id, such as `f3d64c30f8_uid129_A008710_B004130`."""
    # Frame ids repeat from scene to scene, so B's scene is named where it is another one.
    b_name = pair.frame_b if pair.b is pair.a else f"{pair.b.scene_id}_{pair.frame_b}"
    removed = "_removed" if pair.basis == INPAINTED else ""
    return f"{pair.a.scene_id}_uid{pair.uid}_A{pair.frame_a}_B{b_name}{removed}"


@dataclass(frozen=True)
class JoinedNames:
    """Files of a side-by-side sample, relative to the samples' file; None where it has no such file."""

    picture: str
    depth: str | None
    mask: str | None


def joined_names(pair: Pair) -> JoinedNames:
    """The files of a pair's side-by-side sample."""
    stem = f"concat/{pair.a.scene_id}/{name_of(pair)}"
    depth = pair.a.views[pair.uid][pair.frame_a].depth
    return JoinedNames(f"{stem}.png", f"{stem}_depth.png" if depth else None, None if pair.tier else f"{stem}_mask.png")


def sizes(pair: Pair) -> SideBySide:
    """Where the two images lie when they are joined."""
    a, b = pair.a.views[pair.uid][pair.frame_a], picture_b(pair)
    return SideBySide((a.width, a.height), (b.width, b.height))


def to_sample(pair: Pair, point_rule: str) -> dict[str, Any]:
    """A pair as a sample of two images.

    `mask_area` and `mask_b` are those of the object in image B: 0 and None if it is not there.
    """
    view, target, b = pair.a.views[pair.uid][pair.frame_a], target_view(pair), picture_b(pair)
    sample: dict[str, Any] = {"id": name_of(pair), "image": [view.marked, original_b(pair)]}
    if view.depth is not None:
        sample["depth"] = [view.depth, b.depth]
    return sample | {
        "conversations": _conversation(QUESTION, target.point if target else None),
        "meta": {
            "scene": pair.a.scene_id,
            "uid": pair.uid,
            "frameA": pair.frame_a,
            "frameB": pair.frame_b,
            "is_neg": pair.tier is not None,
            "neg_type": pair.tier,
            "mask_area": target.area if target else 0,
            "label": pair.a.labels[pair.uid],
            "scene_b": pair.b.scene_id,
            "mask_b": target.mask if target else None,
            "point_rule": point_rule,
        },
    }


def to_joined_sample(pair: Pair, point_rule: str) -> dict[str, Any]:
    """A pair as a sample of one picture, both images side by side; the answer and `mask_b` are those of the picture.

    `meta.size_a` and `meta.size_b` are width and height of the two images.
    """
    target, names, geometry = target_view(pair), joined_names(pair), sizes(pair)
    sample = to_sample(pair, point_rule)
    sample["image"] = [names.picture]
    if names.depth is not None:
        sample["depth"] = [names.depth]
    sample["conversations"] = _conversation(JOINED_QUESTION, geometry.whole_from_b(target.point) if target else None)
    sample["meta"] |= {"mask_b": names.mask, "size_a": list(geometry.a), "size_b": list(geometry.b)}
    return sample


def _conversation(question: str, point: tuple[float, float] | None) -> list[dict[str, str]]:
    answer = NOT_VISIBLE if point is None else format_point(*point)
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
