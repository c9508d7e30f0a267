"""The order of samples: a permutation every epoch, reachable anywhere in constant time, and never changed silently."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections import Counter

import pytest

from stepladder_worker.order import EpochOrder, sample_at


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 9, 10, 16, 17, 97, 100, 1000, 1024, 1025, 4099])
def test_every_epoch_is_a_permutation(length: int) -> None:
    for epoch in (0, 1, 12345):
        assert sorted(EpochOrder(7, "pairs", length, epoch)) == list(range(length))


def test_positions_count_over_epochs() -> None:
    epochs = [list(EpochOrder(7, "pairs", 10, epoch)) for epoch in range(4)]
    assert [sample_at(7, "pairs", 10, position) for position in range(40)] == list(itertools.chain(*epochs))
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_seed_and_name_choose_another_order() -> None:
    def order(seed: int, name: str) -> list[int]:
        return list(EpochOrder(seed, name, 50, 0))

    assert order(1, "a") == order(1, "a")
    assert len({tuple(order(*key)) for key in [(1, "a"), (2, "a"), (1, "b"), (11, "a"), (1, "1a"), (1, "ä")]}) == 6


def test_all_orders_of_three_come_equally_often() -> None:
    counts = Counter(tuple(EpochOrder(0, "pairs", 3, epoch)) for epoch in range(6000))
    assert len(counts) == 6
    assert max(counts.values()) < 1150  # 1000 expected, standard deviation 29


def test_neighbours_are_not_kept_together() -> None:
    order = list(EpochOrder(3, "pairs", 10_000, 0))
    assert sum(abs(a - b) == 1 for a, b in itertools.pairwise(order)) < 20  # 2 expected
    assert 3000 < sum(order[:100]) / 100 < 7000


def test_a_far_position_costs_what_a_near_one_costs() -> None:
    start = time.perf_counter()
    for position in range(10**12, 10**12 + 1000):
        assert 0 <= sample_at(0, "pairs", 10**9 + 7, position) < 10**9 + 7
    assert time.perf_counter() - start < 1.0


def test_known_answers() -> None:
    """The order is part of what a run promises. If this fails, every run with other code differs: do not update it."""
    assert list(EpochOrder(42, "pos_only", 10, 0)) == [8, 0, 6, 1, 4, 3, 7, 5, 2, 9]
    assert list(EpochOrder(42, "pos_only", 10, 1)) == [5, 2, 0, 4, 6, 3, 7, 8, 1, 9]
    assert [sample_at(0, "x", 1000, 10**12 + i) for i in range(5)] == [170, 439, 247, 549, 676]
    assert list(EpochOrder(0, "größe", 3, 2)) == [2, 0, 1]


@pytest.mark.parametrize(("length", "position"), [(0, 0), (-1, 0), (5, -1)])
def test_what_has_no_order_is_refused(length: int, position: int) -> None:
    with pytest.raises(ValueError, match=r"length|positions"):
        sample_at(0, "pairs", length, position)


def test_a_place_outside_the_epoch_is_refused() -> None:
    with pytest.raises(IndexError):
        EpochOrder(0, "pairs", 5, 0)[5]


def test_needs_nothing_but_the_standard_library() -> None:
    code = "import sys, stepladder_worker.order; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
