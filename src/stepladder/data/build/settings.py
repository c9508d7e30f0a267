"""What a person can choose about a build."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stepladder.data.build.points import POINT_RULES
from stepladder.errors import InputError, Problem

UNLISTED_RULES = ("unknown", "absent")
BAD_SAMPLE_RULES = ("refuse", "skip")


@dataclass(frozen=True)
class Settings:
    """Attributes:
    split: the folder below the root whose scenes are used.
    point_rule: how a mask becomes a point, "farthest" or "center" (see `points`).
    negatives: ratio of the tiers A, B and C among the negatives; not all zero.
    negative_share: of all samples, in [0, 1).
    top_area: the share of the visible views, by mask area, largest first, that samples use; in (0, 1].
    min_area: pixels of a mask from which on a view counts as showing its object; at least 1.
    concat: image A and image B side by side in one picture.
    depth: samples name depth pictures, and every view must have one.
    inpainted: pictures from which the object was removed serve as tier C.
    unlisted: what it means that an object's list does not name a frame: "unknown", or "absent" (not seen there).
    on_bad_sample: "refuse" to build from damaged input, or "skip" and list it.
    seed: of every draw; not negative.
    """

    split: str = "train"
    point_rule: str = "farthest"
    negatives: tuple[float, float, float] = (2, 1, 1)
    negative_share: float = 0.5
    top_area: float = 0.8
    min_area: int = 1
    concat: bool = False
    depth: bool = False
    inpainted: bool = False
    unlisted: str = "unknown"
    on_bad_sample: str = "refuse"
    seed: int = 0

    def check(self) -> None:
        """Raises InputError with every value that cannot be used."""
        problems = list(self._problems())
        if problems:
            raise InputError(problems)

    def _problems(self) -> Iterator[Problem]:
        if not self.split or "/" in self.split or self.split.startswith("."):
            yield Problem("--split", f"found {self.split!r}, expected the name of a folder below ROOT")
        for option, value, known in (
            ("--point-rule", self.point_rule, POINT_RULES),
            ("--unlisted", self.unlisted, UNLISTED_RULES),
            ("--on-bad-sample", self.on_bad_sample, BAD_SAMPLE_RULES),
        ):
            if value not in known:
                yield Problem(option, f"found {value!r}, expected {' or '.join(known)}")
        if not all(0 <= part < float("inf") for part in self.negatives) or not any(self.negatives):
            yield Problem("--negatives", f"found {self.negatives}, expected three numbers from 0, one of them above 0")
        if not 0 <= self.negative_share < 1:
            yield Problem("--negative-share", f"found {self.negative_share:g}, expected at least 0 and less than 1")
        if not 0 < self.top_area <= 1:
            yield Problem("--top-area", f"found {self.top_area:g}, expected more than 0 and at most 1")
        if self.min_area < 1:
            yield Problem("--min-area", f"found {self.min_area} pixels, expected at least 1")
        if self.inpainted and self.depth:
            yield Problem("--inpainted", "found with --depth: depth pictures still show the object that was removed")
        if self.seed < 0:
            yield Problem("--seed", f"found {self.seed}, expected 0 or more")


def parse_ratio(text: str) -> tuple[float, float, float]:
    """`A:B:C` as three numbers; raises InputError."""
    try:
        a, b, c = map(float, text.split(":"))
    except ValueError:
        raise InputError([Problem("--negatives", f"found {text!r}, expected A:B:C, such as 2:1:1")]) from None
    return a, b, c
