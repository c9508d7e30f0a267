"""A selection: which rows of which stores a stage trains on, and which comes at a position.

A folder with `selection.json` and, for every part, its rows as a NumPy array; `select.py` writes it. Rows are mapped
into memory, so that opening one takes milliseconds and no memory, in any number of processes. Needs numpy and pyarrow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stepladder.data.records import Store, read_store
from stepladder.data.samples import DataError
from stepladder_worker.contract import read_sealed
from stepladder_worker.order import MixtureOrder, PartOrder

#: Name of the file that describes a selection; `--data` takes its path.
FILE = "selection.json"

#: Version of what a selection's folder holds.
VERSION = 1

_HINT = "make the selection again: start the stage again, or `stepladder run` again"


@dataclass(frozen=True)
class SelectedPart:
    """The rows of one dataset.

    Attributes:
        dataset: its name.
        store_path: folder of its store.
        store_rows: records of the store.
        digest: of rows and lengths, see `digest_of`.
        rows_path: its rows, an int64 array in the order of the selection.
        lengths_path: tokens of all rows of its store, or None where nobody has counted them.
        where: the condition, or None.
        count: number of rows.
        repeat: how often each comes in an epoch.
        share: how many of every `sum of shares` positions are the part's.
        shuffled: false where the rows were ordered.
    """

    dataset: str
    store_path: Path
    store_rows: int
    digest: str
    rows_path: Path
    lengths_path: Path | None
    where: str | None
    count: int
    repeat: int
    share: int
    shuffled: bool

    @cached_property
    def store(self) -> Store:
        """The records; raises DataError when the store is gone."""
        return read_store(self.store_path)

    @cached_property
    def rows(self) -> npt.NDArray[np.int64]:
        """Rows of the store, mapped into memory; raises DataError when they are gone or damaged."""
        return _mapped(self.rows_path, self.count, "int64")

    @cached_property
    def lengths(self) -> npt.NDArray[np.int32] | None:
        """Tokens of every row of the store, -1 where not known, mapped; None without any. Raises as `rows` does."""
        return None if self.lengths_path is None else _mapped(self.lengths_path, self.store_rows, "int32")

    def is_whole(self) -> bool:
        """Whether rows and lengths are those that were written."""
        return digest_of(self.rows, self.lengths) == self.digest


class Selection:
    """What a stage trains on.

    Attributes:
        path: the folder.
        mixture: its name.
        key: names the order: the same key continues the same order in a later stage.
        seed: of every draw.
        inputs: digest of the definition and of its files' contents: while it stays, so does the selection.
        fingerprint: of what is trained when: the order, the rows, and the contents of the stores.
        length: samples of an epoch.
        parts: in the order of the mixture.
        left_out: how many samples were left out because they cannot be used.
        unscored: how many samples of a dataset have no score, by its name, where some have none.
    """

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        """Use `read_selection`."""
        self.path = path
        self.mixture: str = facts["mixture"]
        self.key: str = facts["key"]
        self.seed: int = facts["seed"]
        self.inputs: str = facts["inputs"]
        self.fingerprint: str = facts["fingerprint"]
        self.length: int = facts["length"]
        self.left_out: int = facts["left_out"]
        self.unscored: dict[str, int] = facts["unscored"]
        self.parts = tuple(
            SelectedPart(
                dataset=part["dataset"],
                store_path=Path(part["store"]),
                store_rows=part["store_rows"],
                digest=part["digest"],
                rows_path=path / part["rows"],
                lengths_path=None if part["lengths"] is None else path / part["lengths"],
                where=part["where"],
                count=part["count"],
                repeat=part["repeat"],
                share=part["share"],
                shuffled=part["shuffled"],
            )
            for part in facts["parts"]
        )

    def __len__(self) -> int:
        return self.length

    def __reduce__(self) -> tuple[Callable[[Path], Selection], tuple[Path]]:
        """Another process maps the files itself."""
        return read_selection, (self.path,)

    @cached_property
    def order(self) -> MixtureOrder:
        """Which place of which part comes at a position."""
        parts = [PartOrder(part.count, part.share, part.shuffled) for part in self.parts]
        return MixtureOrder(self.seed, self.key, parts)

    def at(self, position: int) -> tuple[SelectedPart, int]:
        """(part, row of its store) of the sample at `position`, which counts from 0 over all epochs."""
        part, place = self.order.at(position)
        return self.parts[part], int(self.parts[part].rows[place])

    def index_of(self, part: SelectedPart, row: int) -> int:
        """The index of a row where the stores of all parts are laid end to end, each once, in the order of the parts.

        So the trainer names samples, and the evidence it leaves.
        """
        return self._firsts[part.store_path] + row

    @cached_property
    def _firsts(self) -> dict[Path, int]:
        firsts: dict[Path, int] = {}
        rows = 0
        for part in self.parts:
            if part.store_path not in firsts:
                firsts[part.store_path] = rows
                rows += part.store_rows
        return firsts


def digest_of(rows: npt.NDArray[np.int64], lengths: npt.NDArray[np.int32] | None) -> str:
    """32 hex digits of a part's rows, and of the lengths that are kept beside them."""
    hashed = hashlib.blake2b(np.ascontiguousarray(rows).data, digest_size=16)
    if lengths is not None:
        hashed.update(np.ascontiguousarray(lengths).data)
    return hashed.hexdigest()


def is_selection(path: Path) -> bool:
    """Whether a path that is given as data is a selection: its folder, or the `selection.json` in it."""
    return path.name == FILE or (path / FILE).is_file()


def read_selection(path: Path, stores: bool = True) -> Selection:
    """Open a selection: its folder, or the `selection.json` in it.

    Args:
        path: see above.
        stores: the records must be there as well; the order alone needs none.

    Raises:
        DataError: nothing there, another version, damaged, or a store that is gone.
    """
    folder = path.parent if path.name == FILE else path
    try:
        facts = read_sealed(folder / FILE)
        if facts["version"] != VERSION or facts["kind"] != "selection":
            raise ValueError(f"version {facts['version']} of a {facts['kind']}, expected {VERSION} of a selection")
        selection = Selection(folder.absolute(), facts)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{folder / FILE} cannot be read: {error}\nhint: {_HINT}") from None
    for part in selection.parts:
        _ = part.rows, part.store if stores else None
    return selection


def _mapped(path: Path, count: int, kind: str) -> npt.NDArray[Any]:
    try:
        if not path.is_file():
            raise FileNotFoundError("no such file")
        found: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header can end its reader in any way
        raise DataError(f"{path} cannot be read: {error}\nhint: {_HINT}") from None
    if found.shape != (count,) or found.dtype != np.dtype(kind):
        raise DataError(f"{path} has {found.shape} {found.dtype}, expected {count} {kind}\nhint: {_HINT}")
    return found
