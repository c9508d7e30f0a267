"""Orders of `stepladder_worker` as a sampler of torch's data loader that can begin anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

from torch.utils.data import Sampler

from stepladder_worker.order import EpochOrder

#: The row at a position, which counts samples from 0 over all epochs: a pure function.
Order = Callable[[int], int]


def named_order(seed: int, name: str, length: int) -> Order:
    """The order of `stepladder_worker.order.sample_at`; the keys of an epoch are made once."""
    epoch_of = lru_cache(maxsize=2)(lambda epoch: EpochOrder(seed, name, length, epoch))

    def row_at(position: int) -> int:
        epoch, place = divmod(position, length)
        return epoch_of(epoch)[place]

    return row_at


class OrderedSampler(Sampler[int]):
    """Yields the epochs of an order one after the other, without drawing from any random state.

    Args:
        length: samples of an epoch.
        order: which row comes when.

    Attributes:
        epoch: the epoch that the next iteration yields, as torch's and accelerate's own samplers call it.
    """

    def __init__(self, length: int, order: Order) -> None:
        self._length = length
        self._order = order
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields."""
        self.epoch = epoch

    def starting_at(self, place: int) -> Iterator[int]:
        """The epoch from `place` on, which counts from 0, without drawing what lies before it."""
        first = self.epoch * self._length
        return map(self._order, range(first + place, first + self._length))

    def __iter__(self) -> Iterator[int]:
        return self.starting_at(0)

    def __len__(self) -> int:
        return self._length
