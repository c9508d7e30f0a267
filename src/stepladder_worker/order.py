"""Which sample comes when, as a pure function of (seed, name, position).

A position counts samples over all epochs, so the order has no state to save: any process computes any part of it,
from anywhere, in constant time and memory. Every epoch is a permutation of ``range(length)`` of its own.

The permutation is a keyed generalized Feistel network on pairs of ``range(side) ** 2``, the smallest square that
holds ``range(length)``; an index that leaves the range is sent through again until it is back in ("cycle walking").
Both ideas: Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002; for shuffling data: Mitchell et
al., "Bandwidth-Optimal Random Shuffling for GPUs", 2021. The square is less than ``2 * side`` larger than the range,
so an index is rarely sent twice.

A mixture interleaves its parts evenly by whole-number shares: a binary tree halves the list of parts, and at every
node the first `k` positions hold ``k * left // (left + right)`` of the left side (Bresenham's line). How often a part
came before a position is therefore arithmetic, not a table. Standard library only, Python 3.10 and newer.

The order is part of what a run promises: a change here changes every run. tests/test_order.py holds known answers.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

#: Feistel rounds. Four give a pseudorandom permutation of a large range (Luby and Rackoff, 1988); six also mix
#: ranges of a handful of samples.
ROUNDS = 6

_MASK = (1 << 64) - 1


class EpochOrder:
    """The order of one epoch: a permutation of ``range(length)`` that is never written down.

    Args:
        seed: seed of the run.
        name: name of the data (the mixture). The same name continues the same order in a later stage.
        length: number of samples, at least 1.
        epoch: pass over the data, from 0.

    Raises:
        ValueError: a length below 1 or a negative epoch.
    """

    def __init__(self, seed: int, name: str, length: int, epoch: int) -> None:
        if length < 1:
            raise ValueError(f"an order needs at least one sample, found length {length}")
        if epoch < 0:
            raise ValueError(f"epochs count from 0, found {epoch}")
        self._length = length
        self._side = math.isqrt(length - 1) + 1
        self._keys = _round_keys(seed, name, epoch)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> int:
        """The sample at place `index` of this epoch; raises IndexError outside ``range(length)``."""
        if not 0 <= index < self._length:
            raise IndexError(f"place {index} of an epoch of {self._length} samples")
        return self._walk(index)

    def __iter__(self) -> Iterator[int]:
        return map(self._walk, range(self._length))

    def _walk(self, value: int) -> int:
        value = self._permute(value)
        while value >= self._length:
            value = self._permute(value)
        return value

    def _permute(self, value: int) -> int:
        """One pass of the network over ``range(side * side)``; the mixer is splitmix64's (Steele et al., 2014)."""
        side = self._side
        left, right = divmod(value, side)
        for key in self._keys:
            z = (right + key) & _MASK
            z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
            left, right = right, (left + (z ^ (z >> 31))) % side
        return left * side + right


def sample_at(seed: int, name: str, length: int, position: int) -> int:
    """The sample (0 to length - 1) that comes at `position`, which counts samples from 0 over all epochs.

    Raises:
        ValueError: a length below 1 or a negative position.
    """
    if position < 0:
        raise ValueError(f"positions count from 0, found {position}")
    epoch, place = divmod(position, max(length, 1))
    return EpochOrder(seed, name, length, epoch)[place]


@dataclass(frozen=True)
class PartOrder:
    """One part of a mixture.

    Attributes:
        rows: samples of the part, at least 1.
        share: how many of every ``sum of shares`` positions are the part's; at least 1.
        shuffled: every pass over the part has a permutation of its own; else all go from the first row to the last.
    """

    rows: int
    share: int
    shuffled: bool


class MixtureOrder:
    """Which row of which part comes at a position of a mixture.

    An epoch has ``sum of rows * repeats`` positions, as the caller says; parts whose share is larger than what an epoch
    gives them begin their next pass within it, so nothing here depends on where an epoch ends.

    Args:
        seed: seed of the mixture.
        key: names the mixture. The same key continues the same order in a later stage.
        parts: in the order of the mixture, at least one.

    Raises:
        ValueError: no parts, or a part without rows or share.
    """

    def __init__(self, seed: int, key: str, parts: Sequence[PartOrder]) -> None:
        if not parts or any(part.rows < 1 or part.share < 1 for part in parts):
            raise ValueError(f"a mixture needs parts with rows and shares of at least 1, found {list(parts)}")
        self._parts = tuple(parts)
        self._sums = (0, *itertools.accumulate(part.share for part in parts))
        # An epoch of every part is asked for at each of its samples, and its keys cost more than its permutation.
        self._pass = lru_cache(maxsize=2 * len(parts))(
            lambda part, number: EpochOrder(seed, f"{key}/{part}", parts[part].rows, number)
        )

    def at(self, position: int) -> tuple[int, int]:
        """(part, place among the part's rows) at `position`, which counts from 0 over all epochs.

        Raises ValueError for a negative position.
        """
        part, before = self.turn(position)
        rounds, place = divmod(before, self._parts[part].rows)
        return part, self._pass(part, rounds)[place] if self._parts[part].shuffled else place

    def turn(self, position: int) -> tuple[int, int]:
        """(part, positions before this one that were the part's)."""
        if position < 0:
            raise ValueError(f"positions count from 0, found {position}")
        first, last, before = 0, len(self._parts), position
        while last - first > 1:
            middle = (first + last) // 2
            left = self._sums[middle] - self._sums[first]
            both = self._sums[last] - self._sums[first]
            of_left = before * left // both
            if (before + 1) * left // both > of_left:
                last, before = middle, of_left
            else:
                first, before = middle, before - of_left
        return first, before


def _round_keys(seed: int, name: str, epoch: int) -> tuple[int, ...]:
    """One 64-bit key a round, from everything that names the epoch. JSON keeps ("1", 2) and ("12", ) apart."""
    text = json.dumps([seed, name, epoch])
    hashed = hashlib.blake2b(text.encode("ascii"), digest_size=8 * ROUNDS, person=b"stepladder/order")
    return struct.unpack(f"<{ROUNDS}Q", hashed.digest())
