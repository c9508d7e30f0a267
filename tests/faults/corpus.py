"""The fault corpus: what is planted, who must name it, and what came of it.

A fault is a small record. The files `in_*.py` hold them by where they are planted, the files `test_*.py` plant them,
for real, and `docs/faults.md` lists them. Every fault has a healthy twin, the same chain, script or curriculum without
the plant, which must pass. A fault that is caught under another name counts as not caught.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

#: What the plain Trainer does at a boundary, by number; docs/faults.md tells them in words.
TRAPS = (
    *("1a", "1b", "2", "3", "4", "4b", "5", "6", "6b", "7a", "7b", "7c"),
    *("8", "9", "9b", "10", "10b", "11", "12", "13", "14"),
)
#: Faults that no trap of the plain Trainer brings: files changed, records edited, scripts that do more.
BEYOND = "-"


@dataclass(frozen=True)
class Fault:
    """A planted fault.

    Attributes:
        name: what is planted, in words; no other fault has it.
        trap: the trap of the plain Trainer that it is, or BEYOND.
        caught_by: "verify", "plan" or "run" (both before any process starts), or "worker" (it ends the stage).
        named: of verify, the checks that fail, these and no others; else one text, which the message has.
    """

    name: str
    trap: str
    caught_by: str
    named: tuple[str, ...]


class Tally:
    """Counts the faults that were planted and the healthy twins that were looked at."""

    def __init__(self) -> None:
        self.planted: set[str] = set()
        self.caught: set[str] = set()
        self.twins: set[str] = set()
        self.passed: set[str] = set()

    @contextmanager
    def planting(self, fault: Fault) -> Iterator[None]:
        """The fault is planted in here; without an exception it was caught under its name."""
        self.count(fault, caught=False)
        yield
        self.count(fault, caught=True)

    def count(self, fault: Fault, caught: bool) -> None:
        self.planted.add(fault.name)
        if caught:
            self.caught.add(fault.name)

    @contextmanager
    def twin(self, name: str) -> Iterator[None]:
        """A healthy twin is looked at in here; an exception is a false alarm."""
        self.twins.add(name)
        yield
        self.passed.add(name)

    def taken(self) -> dict[str, list[str]]:
        """What was counted since this was last asked, as plain lists."""
        counted = {kind: sorted(names) for kind, names in vars(self).items()}
        for names in vars(self).values():
            names.clear()
        return counted


#: The tally of the test that runs; conftest.py hands it on to the line at the end of the tests.
TALLY = Tally()
