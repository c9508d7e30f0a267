"""What a person can choose about the data set, and the error that says what cannot be built."""

from __future__ import annotations

from dataclasses import dataclass

from stepladder.data.build.points import POINT_RULES
from stepladder.errors import StepladderError


class RoomsError(StepladderError):
    """The data set cannot be built as asked."""

    exit_code = 2


@dataclass(frozen=True)
class Settings:
    """Attributes:
    scenes: rooms in all; a fifth of them, at least two, are held out for evaluation.
    seed: everything follows from it; not negative.
    width, height: of the images, pixels.
    point_rule: how an object's mask becomes a point, "farthest" or "center".
    """

    scenes: int = 20
    seed: int = 0
    width: int = 224
    height: int = 126
    point_rule: str = "farthest"

    @property
    def eval_scenes(self) -> int:
        return max(2, self.scenes // 5)

    def check(self) -> None:
        """Raises RoomsError when a value cannot be used."""
        if self.scenes < 4:
            raise RoomsError(
                f"scenes is {self.scenes}, expected at least 4",
                "two rooms for training and two held out are the least that tier A needs",
            )
        if self.seed < 0:
            raise RoomsError(f"seed is {self.seed}, expected 0 or more", "leave it out for seed 0")
        for name, value in (("width", self.width), ("height", self.height)):
            if not 32 <= value <= 4096:
                raise RoomsError(f"{name} is {value} pixels, expected 32 to 4096", "the default is 224 x 126")
        if self.point_rule not in POINT_RULES:
            raise RoomsError(f"unknown point rule {self.point_rule!r}", f"known rules: {', '.join(POINT_RULES)}")
