"""Which positions of an order the steps of a stage take: arithmetic over its batch. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Stretch:
    """Steps that one attempt trained with one batch.

    Attributes:
        first, last: global optimizer steps, both included.
        epoch, samples: where the data stood before `first`: so many samples into that epoch.
        length: samples of an epoch.
        span: samples of one micro-batch over all processes.
        accumulation: micro-batches of a step; fewer where an epoch ends.
    """

    first: int
    last: int
    epoch: int
    samples: int
    length: int
    span: int
    accumulation: int


def positions(stretch: Stretch) -> Iterator[tuple[int, int]]:
    """(global step, position over all epochs) of every sample, in the order of training."""
    epoch, done = stretch.epoch, stretch.samples
    for step in range(stretch.first, stretch.last + 1):
        if done >= stretch.length:
            epoch, done = epoch + 1, 0
        taken = min(stretch.span * stretch.accumulation, stretch.length - done)
        for place in range(done, done + taken):
            yield step, epoch * stretch.length + place
        done += taken


def after(position: int, steps: int, batch: int, length: int) -> int:
    """The position that follows so many steps of `batch` samples from a position, both over all epochs.

    The last step of an epoch takes what is left of it.
    """
    epoch, done = divmod(position, length)
    of_epoch = -(-(length - done) // batch)
    if steps < of_epoch:
        return position + steps * batch
    epochs, rest = divmod(steps - of_epoch, -(-length // batch))
    return (epoch + 1 + epochs) * length + rest * batch
