"""Images and depth maps of a sample, decoded when it is trained; a file that cannot be decoded is named.

A depth map becomes a picture by this rule, in whole numbers, so that every machine makes the same bytes: pixels of 0
(nothing measured) are black; the nearest measured pixel of the map is 255, the farthest 1, and a distance `d` between
them ``255 - 254 * (d - nearest) // (farthest - nearest)``, the same in all three channels. Only the map's own range
counts, so its unit does not matter. A depth map that is saved as a colour picture is taken as it is.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from stepladder.data.samples import DataError, Sample

#: Pillow's modes of a picture with one channel of distances.
DISTANCES = ("I;16", "I;16L", "I;16B", "I", "L")


def load_images(sample: Sample, use_depth: bool) -> list[Any]:
    """A sample's images as PIL images in RGB, in order; with `use_depth` its depth maps after all of them.

    Raises:
        DataError: a file that cannot be decoded, or, with `use_depth`, images that lack a depth map each.
    """
    images = [_decoded(sample, f"image {path}", Path(path), _picture) for path in sample.images]
    images += [
        _decoded(sample, f"embedded image {number}", io.BytesIO(content), _picture)
        for number, content in enumerate(sample.embedded)
    ]
    if not use_depth:
        return images
    if len(sample.depth) != len(images) or not images:
        raise DataError(
            f"sample {sample.id} has {len(sample.depth)} depth maps for {len(images)} images, expected one for each\n"
            "hint: name them under `depth`, in the order of the images, by paths inside the data's folder, "
            "or leave out use_depth"
        )
    return images + [_decoded(sample, f"depth map {path}", Path(path), _depth_picture) for path in sample.depth]


def depth_picture(distances: Any) -> Any:
    """Distances (an array of whole numbers of height x width, 0: not measured) as uint8 of the same shape.

    The rule is this file's first paragraph.
    """
    found = np.asarray(distances).astype(np.int64)
    measured = found > 0
    if not measured.any():
        return np.zeros(found.shape, np.uint8)
    nearest, farthest = int(found[measured].min()), int(found[measured].max())
    gray = 255 - 254 * (found - nearest) // max(1, farthest - nearest)
    return np.where(measured, gray, 0).astype(np.uint8)


def _decoded(sample: Sample, what: str, source: Path | io.BytesIO, read: Callable[[Any], Any]) -> Any:
    try:
        with Image.open(source) as image:
            image.load()
            return read(image)
    except Exception as error:  # decoders raise whatever they stumble over: SyntaxError, struct.error, OSError
        raise DataError(
            f"sample {sample.id}: {what} cannot be decoded: {str(error) or type(error).__name__}\n"
            "hint: write the file anew, or leave the sample out (`stepladder data check` finds all such files)"
        ) from None


def _picture(image: Any) -> Any:
    return ImageOps.exif_transpose(image).convert("RGB")


def _depth_picture(image: Any) -> Any:
    if image.mode not in DISTANCES:
        return _picture(image)
    return Image.fromarray(depth_picture(np.asarray(image))).convert("RGB")
