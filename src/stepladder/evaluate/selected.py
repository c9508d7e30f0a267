"""Samples of a selection, read from its memory-mapped stores."""

from __future__ import annotations

from collections.abc import Iterator

from stepladder.data.selection import Selection
from stepladder_worker.order import EpochOrder


def drawn_positions(selection: Selection, most: int) -> Iterator[int]:
    """At most `most` positions of the first epoch, in order; drawn from all of it where there are more."""
    if most >= selection.length:
        return iter(range(selection.length))
    order = EpochOrder(0, "evaluation", selection.length, 0)
    return iter(sorted(order[index] for index in range(most)))
