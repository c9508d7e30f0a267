"""The picture that asks: a view with one object outlined."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from stepladder.data.build.arrays import Bytes, Mask

#: The colour in which the object in question is outlined, and its name in the question.
MARK_COLOR, MARK_NAME = (255, 0, 255), "magenta"


def mark(rgb: Bytes, mask: Mask) -> Bytes:
    """A copy of the view in which the mask is outlined, just outside of it, about 1/60 of the height wide."""
    marked = rgb.copy()
    marked[dilate(mask, max(2, round(len(mask) / 60))) & ~mask] = MARK_COLOR
    return marked


def has_mark(rgb: Bytes) -> bool:
    """Whether anything in a view [height, width, 3] has the colour of the outline."""
    return bool((rgb == MARK_COLOR).all(axis=-1).any())


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


def encode_png(array: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> bytes:
    """PNG of an RGB image [height, width, 3], or of 8-bit or 16-bit grey values [height, width]."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def _cut(axis: int, start: int | None, stop: int | None) -> tuple[slice, slice]:
    part = slice(start, stop)
    return (part, slice(None)) if axis == 0 else (slice(None), part)
