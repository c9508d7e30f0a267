"""Orders that can begin anywhere, and windows of samples of similar length."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from stepladder.data.lengths import trained_order
from stepladder.data.selection import read_selection
from stepladder_worker import session
from stepladder_worker.contract import Handover, StageTask
from stepladder_worker.order import sample_at
from stepladder_worker.windows import CHUNK, WindowedOrder
from trainers import load, select, write_texts


class Counted:
    """An order that counts how often it is asked."""

    def __init__(self, length: int) -> None:
        self.length, self.asked = length, 0

    def __call__(self, position: int) -> int:
        self.asked += 1
        return sample_at(3, "counted", self.length, position)


class TestSeek:
    @pytest.fixture(autouse=True)
    def stage(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What RecordedBatches tells is kept by the process's stage."""
        files = [str(tmp_path / name) for name in ("result.json", "heartbeat.json", "control.json")]
        nothing: dict[str, Any] = {}
        task = StageTask(
            *("run", "one", 1, 1, 0, True, 0, 10, 0, str(tmp_path), None, None, Handover(), None, nothing, None, None),
            False,
            *files,
        )
        monkeypatch.setattr(session, "_current", session.Session(task, "digest"))

    def ranks(self, sampler: Any, length: int) -> list[Any]:
        """The recorded loaders of two ranks, with 2 samples a micro-batch."""
        from accelerate import PartialState
        from accelerate.data_loader import prepare_data_loader
        from torch.utils.data import DataLoader

        from stepladder_worker.hooks.data_batches import record

        PartialState(cpu=True)
        loaders = []
        for rank in (0, 1):
            loader: Any = DataLoader(range(length), batch_size=2, sampler=sampler)  # type: ignore[arg-type]
            prepared = prepare_data_loader(loader, num_processes=2, process_index=rank)
            loaders.append(record(prepared, 4, enforcing=True))
        return loaders

    @pytest.mark.parametrize("length", [20, 21, 22, 23, 3])
    def test_both_ranks_go_on_anywhere_as_if_unbroken(self, length: int) -> None:
        """Also at the end of an epoch, which is filled up with its first samples; walking samplers do the same."""
        from stepladder.trainer.sampler import OrderedSampler, named_order

        order = named_order(3, "pairs", length)
        sampler = OrderedSampler(length, order)
        sampler.set_epoch(2)
        walked = [order(2 * length + place) for place in range(length)]
        both = zip(self.ranks(sampler, length), self.ranks(walked, length), strict=True)
        for rank, (seeking, walking) in enumerate(both):
            unbroken = list(seeking)
            assert list(walking) == unbroken
            for samples in range(0, length, 4):
                left, trained = seeking.start_at(2, samples), samples // 4
                assert (list(seeking), left) == (unbroken[trained:], len(unbroken) - trained), (rank, samples)
                assert list(seeking) == unbroken  # the next pass is whole again
            for samples in range(1, length):
                for batches in (seeking, walking):
                    batches.start_at(2, samples)
                begun = list(seeking)
                assert begun == list(walking), (rank, samples)
                if samples % 4:
                    assert begun[0] == walked[samples + 2 * rank :][:2] or length - samples < 4

    def test_no_sample_before_the_place_is_drawn(self) -> None:
        from stepladder.trainer.sampler import OrderedSampler

        order = Counted(20_000_000)
        batches = self.ranks(OrderedSampler(order.length, order), order.length)[0]
        batches.start_at(0, 10_000_000)
        assert next(iter(batches)) == [sample_at(3, "counted", order.length, 10_000_000 + i) for i in range(2)]
        assert order.asked <= 8

    def test_the_epoch_is_as_long_as_the_sampler_says(self) -> None:
        """Not as the rows that it draws from; a sampler that cannot begin anywhere keeps the data set's length."""
        from stepladder.trainer.sampler import OrderedSampler

        assert self.ranks(OrderedSampler(12, lambda position: position % 5), 100)[0].facts()["length"] == 12
        assert self.ranks(list(range(12)), 100)[0].facts()["length"] == 100


#: Of samples of mixed lengths.
LENGTHS = random.Random(1).choices(range(1, 501), k=1000)

#: Rows of TestWindows.order at some positions.
KNOWN = [529, 947, 766, 852, 982, 558]


class TestWindows:
    def order(self, length: int = 1000, window: int = 4 * CHUNK, key: str = "pairs") -> WindowedOrder:
        return WindowedOrder(
            7, key, length, window, lambda p: sample_at(7, key, length, p), lambda rows: [LENGTHS[r] for r in rows]
        )

    @pytest.mark.parametrize("length", [1, CHUNK, 257, 1000])
    def test_every_epoch_is_a_permutation_and_windows_keep_their_samples(self, length: int) -> None:
        order = self.order(length)
        for epoch in (0, 1):
            found = [order.at(epoch * length + place) for place in range(length)]
            plain = [sample_at(7, "pairs", length, epoch * length + place) for place in range(length)]
            assert sorted(found) == list(range(length))
            for first in range(0, length, 4 * CHUNK):
                assert sorted(found[first : first + 4 * CHUNK]) == sorted(plain[first : first + 4 * CHUNK])

    def test_any_position_alone_is_what_a_walk_finds(self) -> None:
        order, some = self.order(), (1999, 0, 1000, 700)
        walk = [order.at(position) for position in range(2000)]
        assert [self.order().at(position) for position in some] == [walk[position] for position in some]

    def test_neighbours_have_about_the_same_length_and_chunks_are_shuffled(self) -> None:
        order = self.order()
        chunks = [[LENGTHS[order.at(first + i)] for i in range(CHUNK)] for first in range(0, 4 * CHUNK, CHUNK)]
        assert all(chunk == sorted(chunk) for chunk in chunks)
        turns = {tuple(self.ranks(order, epoch)) for epoch in range(20)}
        assert len(turns) > 10  # of 24

    def ranks(self, order: WindowedOrder, epoch: int) -> list[int]:
        firsts = [LENGTHS[order.at(epoch * 1000 + first)] for first in range(0, 4 * CHUNK, CHUNK)]
        return sorted(range(4), key=firsts.__getitem__)

    def test_known_answer(self) -> None:
        """A change here changes what every run with windows trains."""
        assert [self.order().at(position) for position in (0, 1, 2, 999, 1000, 123_456)] == KNOWN

    def test_padding_shrinks(self) -> None:
        def padding(order: Any) -> float:
            batches = [[LENGTHS[order(first + i)] for i in range(8)] for first in range(0, 1000, 8)]
            return 1 - sum(map(sum, batches)) / sum(8 * max(batch) for batch in batches)

        assert padding(self.order().at) < 0.2 < 0.4 < padding(lambda p: sample_at(7, "pairs", 1000, p))

    @pytest.mark.parametrize(("length", "window"), [(0, CHUNK), (10, 0), (10, CHUNK + 1)])
    def test_what_gives_no_order_is_refused(self, length: int, window: int) -> None:
        with pytest.raises(ValueError, match="found"):
            self.order(length, window)

    def test_counted_lengths_come_before_estimates(self, tmp_path: Path) -> None:
        """By the column `length` of a dataset's scores; a sample without one is estimated."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = write_texts(tmp_path / "texts.jsonl", CHUNK)
        scores = {f"t{i}": (i * 37) % CHUNK + 100 for i in range(CHUNK - 1)}
        table = {"id": list(scores), "length": pa.array(scores.values(), pa.int32())}
        pq.write_table(pa.table(table), tmp_path / "scores.parquet")
        data = load(select(tmp_path, path, scores=tmp_path / "scores.parquet"), length_window=CHUNK)
        ids = [data.dataset[data.order(position)]["id"] for position in range(CHUNK)]
        assert ids == [f"t{CHUNK - 1}", *sorted(scores, key=scores.__getitem__)]

    def test_the_trainer_uses_them_on_files_and_selections(self, tmp_path: Path) -> None:
        path = write_texts(tmp_path / "texts.jsonl", 2 * CHUNK)
        selection = select(tmp_path, path)
        order = trained_order(read_selection(selection), 2 * CHUNK)  # what a ledger says
        data = load(selection, length_window=2 * CHUNK)
        for position in range(0, 2 * CHUNK, 10):
            part, row = order(position)
            assert part.store.id(row) == data.dataset[data.order(position)]["id"]
        for source in (path, selection):
            data = load(source, length_window=2 * CHUNK)
            lengths = [len(data.dataset[data.order(position)]["text"]) // 4 for position in range(2 * CHUNK)]
            assert lengths[:CHUNK] == sorted(lengths[:CHUNK])
            assert lengths != sorted(lengths) or lengths[0] == min(lengths)
            assert sorted(data.order(position) for position in range(2 * CHUNK)) == list(range(2 * CHUNK))
