"""Names for the array types of this package."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bytes: TypeAlias = npt.NDArray[np.uint8]
Mask: TypeAlias = npt.NDArray[np.bool_]

#: A position or direction in the room, metres: x and y along the floor, z up.
Vector: TypeAlias = tuple[float, float, float]

#: Red, green, blue in [0, 1].
Color: TypeAlias = tuple[float, float, float]
