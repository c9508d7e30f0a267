"""What a camera sees as PNG bytes."""

from __future__ import annotations

import numpy as np

from stepladder.data.build.marking import encode_png
from stepladder.data.rooms.arrays import Floats, Mask

_MILLIMETRES = 1000


def encode_mask(mask: Mask) -> bytes:
    """8-bit PNG of a mask [height, width]: 255 on it, 0 elsewhere."""
    return encode_png(mask.astype(np.uint8) * 255)


def encode_depth(depth: Floats) -> bytes:
    """16-bit PNG, in millimetres, of depths [height, width] in metres."""
    return encode_png(np.round(depth * _MILLIMETRES).astype(np.uint16))
