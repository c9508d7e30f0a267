"""Pairs of views as training samples: one JSON object a line, as the reference curriculum has them.

Paths are relative to the folder of the JSONL file. The `<image>` placeholders are left to the loader.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from stepladder.data.rooms.images import MARK_NAME
from stepladder.data.rooms.pairs import Pair

NOT_VISIBLE = "NOT_VISIBLE"

QUESTION = (
    f"The first image shows a room with one object outlined in {MARK_NAME}. Point at the same object in the second "
    "image. Answer with one point [(x, y)], where x and y are between 0 and 1, or with NOT_VISIBLE."
)

#: Training file -> the kinds of samples in it (None: positives). Each contains the one before.
MIXTURES: dict[str, tuple[str | None, ...]] = {
    "pos_only.jsonl": (None,),
    "pos_tierA.jsonl": (None, "tierA"),
    "all.jsonl": (None, "tierA", "tierB", "tierC"),
}
EVALUATION = "eval.jsonl"


def format_point(x: float, y: float) -> str:
    """The answer to a positive: x and y in [0, 1] with three decimals."""
    return f"[({x:.3f}, {y:.3f})]"


def to_sample(pair: Pair, point_rule: str) -> dict[str, Any]:
    """A pair as a sample. `mask_area` and `mask_b` are those of the object in image B: 0 and None if not there."""
    view = pair.a.views[pair.uid][pair.frame_a]
    frame = pair.b.frames[pair.frame_b]
    target = None if pair.tier else pair.b.views[pair.uid][pair.frame_b]
    # Frame ids repeat from scene to scene, so B's scene is named where it is another one.
    b_name = pair.frame_b if pair.b is pair.a else f"{pair.b.scene_id}_{pair.frame_b}"
    return {
        "id": f"{pair.a.scene_id}_uid{pair.uid}_A{pair.frame_a}_B{b_name}",
        "image": [view.marked, target.original if target else frame.original],
        "depth": [view.depth, target.depth if target else frame.depth],
        "conversations": [
            {"from": "human", "value": QUESTION},
            {"from": "gpt", "value": format_point(*target.point) if target else NOT_VISIBLE},
        ],
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


def write_mixtures(root: Path, pairs: Sequence[Pair], point_rule: str) -> dict[str, int]:
    """Write the training files, each in the order of `pairs`; returns the number of samples by file."""
    counts = {}
    for name, kinds in MIXTURES.items():
        chosen = [pair for pair in pairs if pair.tier in kinds]
        write_samples(root / name, chosen, point_rule)
        counts[name] = len(chosen)
    return counts


def write_samples(path: Path, pairs: Iterable[Pair], point_rule: str) -> None:
    """Write one JSONL file."""
    path.write_text("".join(json.dumps(to_sample(pair, point_rule)) + "\n" for pair in pairs), encoding="utf-8")
