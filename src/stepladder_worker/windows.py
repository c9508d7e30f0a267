"""Samples of about the same length side by side, in an order that stays a pure function of (seed, key, position).

Batches of samples of mixed lengths are mostly padding; sorting all samples would undo the shuffling. In between:
consecutive windows of an order are sorted by length and cut into chunks of CHUNK samples, and the chunks of a window
come in a permuted order. Neither windows nor chunks know of batches, processes or workers, so the order is the same
for any of them, and a window can be computed anywhere from its number. Standard library only, Python 3.10 and newer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Generic, TypeVar

from stepladder_worker.order import EpochOrder

#: Samples that stay together. Batches of a power of two up to it lie within a chunk.
CHUNK = 64


#: Whatever stands for a sample.
Item = TypeVar("Item")


class WindowedOrder(Generic[Item]):
    """An order whose windows are sorted by length and shuffled in chunks; every epoch keeps the samples it has.

    Args:
        seed, key: what the permutations of chunks are a function of, beside epoch and window.
        length: samples of an epoch, at least 1; windows begin anew with every epoch.
        window: samples of a window, a multiple of CHUNK. The last one of an epoch may have fewer; what is left over by
            its chunks, fewer than CHUNK of its longest samples, ends the epoch.
        item_at: the order underneath: what comes at a position, which counts from 0 over all epochs.
        lengths_of: lengths of items, in any unit.

    Raises:
        ValueError: a length below 1, or a window that is no multiple of CHUNK.
    """

    def __init__(
        self,
        seed: int,
        key: str,
        length: int,
        window: int,
        item_at: Callable[[int], Item],
        lengths_of: Callable[[Sequence[Item]], Sequence[int]],
    ) -> None:
        if length < 1:
            raise ValueError(f"an order needs at least one sample, found length {length}")
        if window < CHUNK or window % CHUNK:
            raise ValueError(f"a window has a multiple of {CHUNK} samples, found {window}")
        self._seed, self._name, self._length, self._size = seed, f"{key}/windows", length, window
        self._item_at, self._lengths_of = item_at, lengths_of
        self._window = lru_cache(maxsize=2)(self._arranged)

    def at(self, position: int) -> Item:
        """What comes at `position`, which counts from 0 over all epochs; the first of a window costs O(window).

        Raises ValueError for a negative position.
        """
        if position < 0:
            raise ValueError(f"positions count from 0, found {position}")
        epoch, place = divmod(position, self._length)
        number, offset = divmod(place, self._size)
        return self._window(epoch, number)[offset]

    def _arranged(self, epoch: int, number: int) -> list[Item]:
        """The items of one window of one epoch, as they come."""
        first = number * self._size
        places = range(first, min(first + self._size, self._length))
        items = [self._item_at(epoch * self._length + place) for place in places]
        lengths = self._lengths_of(items)
        ranked = [items[index] for index in sorted(range(len(items)), key=lengths.__getitem__)]
        chunks = len(items) // CHUNK
        windows = -(-self._length // self._size)
        turns = EpochOrder(self._seed, self._name, chunks, epoch * windows + number) if chunks else ()
        shuffled = [item for turn in turns for item in ranked[turn * CHUNK : (turn + 1) * CHUNK]]
        return shuffled + ranked[chunks * CHUNK :]
