"""The order of samples: a permutation every epoch, reachable anywhere in constant time, and never changed silently."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections import Counter

import pytest

from stepladder_worker.order import EpochOrder, MixtureOrder, PartOrder, sample_at


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


class TestMixtures:
    PARTS = (PartOrder(10, 10, True), PartOrder(5, 15, True), PartOrder(3, 3, False))

    def test_an_epoch_holds_every_row_as_often_as_its_share_says(self) -> None:
        order = MixtureOrder(7, "m", self.PARTS)
        for epoch in (0, 1, 9):
            counts = Counter(order.at(28 * epoch + place) for place in range(28))
            assert counts == Counter(
                [(0, i) for i in range(10)] + [(1, i) for i in range(5)] * 3 + [(2, i) for i in range(3)]
            )

    def test_parts_are_spread_evenly(self) -> None:
        """After any number of positions each part is within one sample a level of the tree of its exact share."""
        for shares in ((1, 1), (10, 15, 3), (1, 999), (7, 1, 1, 1, 1, 50), (3,)):
            order = MixtureOrder(0, "m", [PartOrder(4, share, True) for share in shares])
            seen = Counter[int]()
            for position in range(2 * sum(shares)):
                part, before = order.turn(position)
                assert before == seen[part]
                seen[part] += 1
                for index, share in enumerate(shares):
                    exact = (position + 1) * share / sum(shares)
                    assert abs(seen[index] - exact) <= len(shares).bit_length(), (shares, position)

    def test_a_part_goes_on_where_an_epoch_ends(self) -> None:
        """A small part with a large share begins its next pass within the epoch; none of its rows is left out."""
        order = MixtureOrder(0, "m", [PartOrder(100, 1, True), PartOrder(7, 1, True)])
        places = [place for part, place in map(order.at, range(1400)) if part == 1]
        assert all(sorted(places[i : i + 7]) == list(range(7)) for i in range(0, 700, 7))

    def test_rows_in_order_come_from_first_to_last(self) -> None:
        order = MixtureOrder(0, "m", self.PARTS)
        assert [place for part, place in map(order.at, range(56)) if part == 2] == [0, 1, 2, 0, 1, 2]

    def test_key_and_seed_choose_another_order(self) -> None:
        def order(seed: int, key: str) -> tuple[tuple[int, int], ...]:
            return tuple(map(MixtureOrder(seed, key, self.PARTS).at, range(28)))

        assert order(0, "m") == order(0, "m")
        assert len({order(0, "m"), order(1, "m"), order(0, "n")}) == 3

    def test_a_far_position_costs_what_a_near_one_costs(self) -> None:
        order = MixtureOrder(0, "m", [PartOrder(10**8 + 7, 3, True), PartOrder(10**6, 1, True)])
        start = time.perf_counter()
        for position in range(10**12, 10**12 + 1000):
            order.at(position)
        assert time.perf_counter() - start < 1.0

    def test_what_gives_no_order_is_refused(self) -> None:
        for parts in ([], [PartOrder(0, 1, True)], [PartOrder(1, 0, True)]):
            with pytest.raises(ValueError, match="rows and shares of at least 1"):
                MixtureOrder(0, "m", parts)
        with pytest.raises(ValueError, match="positions count from 0"):
            MixtureOrder(0, "m", self.PARTS).at(-1)

    def test_known_answers(self) -> None:
        """As for epochs: do not update them."""
        order = MixtureOrder(42, "pos_only", self.PARTS)
        assert [order.at(position) for position in range(8)] == [
            (2, 0),
            (1, 4),
            (0, 5),
            (1, 1),
            (1, 0),
            (0, 0),
            (1, 3),
            (1, 2),
        ]
        assert [order.at(10**9 + position) for position in range(4)] == [(1, 2), (1, 1), (0, 7), (1, 3)]
