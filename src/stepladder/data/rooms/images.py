"""Arrays to PNG bytes, and the two drawings made from a mask: the widened mask and the marked view."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from stepladder.data.rooms.arrays import Bytes, Floats, Mask

#: The colour in which the object in question is outlined, and its name in the question.
MARK_COLOR, MARK_NAME = (255, 0, 255), "magenta"

_MILLIMETRES = 1000


def encode_rgb(rgb: Bytes) -> bytes:
    """PNG of an image [height, width, 3]."""
    return _png(rgb)


def encode_mask(mask: Mask) -> bytes:
    """8-bit PNG of a mask [height, width]: 255 on it, 0 elsewhere."""
    return _png(mask.astype(np.uint8) * 255)


def encode_depth(depth: Floats) -> bytes:
    """16-bit PNG, in millimetres, of depths [height, width] in metres."""
    return _png(np.round(depth * _MILLIMETRES).astype(np.uint16))


def dilate(mask: Mask, radius: int) -> Mask:
    """The mask widened by `radius` pixels in all eight directions."""
    for axis in (0, 1):
        wide = mask.copy()
        for shift in range(1, radius + 1):
            ahead, behind = _cut(axis, shift, None), _cut(axis, None, -shift)
            wide[ahead] |= mask[behind]
            wide[behind] |= mask[ahead]
        mask = wide
    return mask


def mark(rgb: Bytes, mask: Mask) -> Bytes:
    """A copy of the view in which the mask is outlined, just outside of it, about 1/60 of the height wide."""
    marked = rgb.copy()
    marked[dilate(mask, max(2, round(len(mask) / 60))) & ~mask] = MARK_COLOR
    return marked


def _cut(axis: int, start: int | None, stop: int | None) -> tuple[slice, slice]:
    part = slice(start, stop)
    return (part, slice(None)) if axis == 0 else (slice(None), part)


def _png(array: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()
