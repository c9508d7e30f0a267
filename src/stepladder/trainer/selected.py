"""The samples of a selection as a datasets.Dataset: its stores, memory-mapped, a record parsed when it is asked for.

An index is a row of the stores, laid end to end in the order in which the selection names them. Nothing is copied:
ranks and data workers share the pages of the same files.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import pyarrow.compute as pc
from datasets import Dataset, concatenate_datasets

from stepladder.data.lengths import Entry
from stepladder.data.selection import Selection
from stepladder.trainer.images import load_images


class SelectedDataset(Dataset):  # type: ignore[misc]
    """All rows of a selection's stores; a row is a sample as TRL takes it: `id`, its columns, `images` if any has some.

    TRL takes nothing but a datasets.Dataset, and only the index says to which store a record belongs: so this is one,
    and reads a row where a transform would.

    Args:
        selection: what is trained on.
        keep_messages: see `read_samples`.
        use_depth: see `load_images`.

    Raises:
        DataError: at access: a record that gives no sample, or see `load_images`.
    """

    def __init__(self, selection: Selection, keep_messages: bool, use_depth: bool) -> None:
        self._stores = list({part.store_path: part.store for part in selection.parts}.values())
        # The stores read their records by themselves; of the tables counts that they have as many rows.
        tables = [Dataset.from_file(str(store.path / "records.arrow")) for store in self._stores]
        rows = concatenate_datasets([table.select_columns("row") for table in tables])
        super().__init__(rows.data, rows.info)
        self._firsts = [0, *accumulate(store.rows for store in self._stores)]
        self._selection = selection
        self._keep_messages, self._use_depth = keep_messages, use_depth
        self._shows_images = use_depth or any(_has_images(store) for store in self._stores)

    def row_of(self, entry: Entry) -> int:
        """The index of a sample of the selection."""
        return self._selection.index_of(*entry)

    def __getitem__(self, row: int) -> dict[str, Any]:
        number = bisect_right(self._firsts, row) - 1
        sample = self._stores[number].sample(row - self._firsts[number], self._keep_messages)
        images = {"images": load_images(sample, self._use_depth)} if self._shows_images else {}
        return {"id": sample.id, **sample.columns, **images}

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        return [self[row] for row in rows]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        # TRL looks at the first sample alone, and a row that nobody selected may have lost its images.
        return (self[self.row_of(self._selection.at(position))] for position in range(self._selection.length))


def _has_images(store: Any) -> bool:
    return bool(store.rows) and bool(pc.max(store.fields["image_count"]).as_py())
