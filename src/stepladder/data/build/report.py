"""What a build tells the person: how many samples of which kind, and what there was too little of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stepladder.data.build.scene import TIERS, UNLISTED

#: What a tier needs and did not find enough of.
_NEEDS = {
    "tierA": "views of other scenes that show nothing of the same label",
    "tierB": "views of other objects of the scene in which the object is known not to be",
    "tierC": "frames of the object's part of the scene in which it is known not to be",
}
_KNOW = "a visibility.json in each scene can say what its frames show (docs/building.md)"
_WAYS = {
    "tierB": f"{_KNOW}, and --unlisted absent trusts the lists",
    "tierC": f"{_KNOW}, and --inpainted uses pictures with the object removed",
}


def counts(description: Mapping[str, Any]) -> str:
    """One line of what was built."""
    samples = description["samples"]
    kinds = ", ".join(f"{count} {kind}" for kind, count in samples.items())
    objects, scenes = description["objects"], description["scenes"]
    used, views, area = description["views_used"], description["views"], description["smallest_area_used"]
    text = f"{sum(samples.values())} samples ({kinds}) of {objects} objects in {scenes} scenes"
    return f"{text}; {used} of {views} views used, their masks from {area} pixels on"


def warnings(description: Mapping[str, Any]) -> Iterator[str]:
    """What the person should know of before training on it."""
    for tier in TIERS:
        if tier in description["too_few"]:
            short = description["too_few"][tier]
            text = f"{tier}: {short['found']} of {short['wanted']} negatives; there are no more {_NEEDS[tier]}"
            yield f"{text}; {_WAYS[tier]}" if tier in _WAYS else text
    trusted = description["basis"].get(UNLISTED, 0)
    if trusted:
        yield f"{trusted} negatives rest on lists alone (meta.basis = '{UNLISTED}'): the object may be seen in some"
    if description["left_out"]:
        yield f"{description['left_out']} views, objects or frames are left out; left_out.jsonl says why"
