"""Names for the array types of this package."""

from __future__ import annotations

from typing import TypeAlias

from stepladder.data.build.arrays import Bytes as Bytes
from stepladder.data.build.arrays import Floats as Floats
from stepladder.data.build.arrays import Ints as Ints
from stepladder.data.build.arrays import Mask as Mask

#: A position or direction in the room, metres: x and y along the floor, z up.
Vector: TypeAlias = tuple[float, float, float]

#: Red, green, blue in [0, 1].
Color: TypeAlias = tuple[float, float, float]
