"""Which sample comes when, as a pure function of (seed, name, position).

A position counts samples over all epochs, so the order has no state to save: any process computes any part of it,
from anywhere, in constant time and memory. Every epoch is a permutation of ``range(length)`` of its own.

The permutation is a keyed generalized Feistel network on pairs of ``range(side) ** 2``, the smallest square that
holds ``range(length)``; an index that leaves the range is sent through again until it is back in ("cycle walking").
Both ideas: Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002; for shuffling data: Mitchell et
al., "Bandwidth-Optimal Random Shuffling for GPUs", 2021. The square is less than ``2 * side`` larger than the range,
so an index is rarely sent twice. Standard library only, Python 3.10 and newer.

The order is part of what a run promises: a change here changes every run. tests/test_order.py holds known answers.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterator

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


def _round_keys(seed: int, name: str, epoch: int) -> tuple[int, ...]:
    """One 64-bit key a round, from everything that names the epoch. JSON keeps ("1", 2) and ("12", ) apart."""
    text = json.dumps([seed, name, epoch])
    hashed = hashlib.blake2b(text.encode("ascii"), digest_size=8 * ROUNDS, person=b"stepladder/order")
    return struct.unpack(f"<{ROUNDS}Q", hashed.digest())
