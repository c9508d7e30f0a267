"""The order of `stepladder_worker.order` as a sampler of torch's data loader."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import Sampler

from stepladder_worker.order import EpochOrder


class OrderedSampler(Sampler[int]):
    """Yields the epochs of an order one after the other, without drawing from any random state.

    Args:
        length: number of samples.
        seed, name: what the order is a function of, see `stepladder_worker.order`.

    Attributes:
        epoch: the epoch that the next iteration yields, as torch's and accelerate's own samplers call it.
    """

    def __init__(self, length: int, seed: int, name: str) -> None:
        self._length = length
        self._seed = seed
        self._name = name
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(EpochOrder(self._seed, self._name, self._length, self.epoch))

    def __len__(self) -> int:
        return self._length
