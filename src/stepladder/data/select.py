"""What a mixture selects, written once: conditions, usable images, draws and orders of all parts, and their shares."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
from filelock import FileLock

from stepladder.data.columns import ColumnError, columns_of, described, token_lengths
from stepladder.data.condition import ExpressionError
from stepladder.data.contents import content_digest, digest
from stepladder.data.mixture import Mixture, Part, Place
from stepladder.data.records import Store
from stepladder.data.rows import Rows, drawn, matching, ordered, share_of
from stepladder.data.samples import DataError
from stepladder.data.selection import FILE, VERSION, Selection, digest_of, read_selection
from stepladder.data.sql import connect
from stepladder.data.store import BadSamplesError, disk_errors, open_store
from stepladder.data.usable import FILES, Look, unusable
from stepladder.errors import InputError, Problem
from stepladder_worker.contract import write_sealed


class SelectionError(InputError):
    """A part of a mixture that cannot be selected.

    Attributes:
        at: where the curriculum file has the part or, for its scores and tiers, the dataset.
        field: the field of it that is wrong, or None.
    """

    def __init__(self, mixture: Mixture, part: Part, field: str | None, text: str, hint: str | None = None) -> None:
        number = mixture.parts.index(part) + 1
        place = f"mixture {mixture.name}, part {number} ({part.source.name})"
        super().__init__([Problem(f"{place}, {field}" if field else place, text, hint)])
        self.at: Place = part.at
        self.field = field
        if field in _OF_DATASET:
            self.at = ("data", "datasets", part.source.name, *_OF_DATASET[field])
            self.field = None


#: Where the curriculum file has the fields of a dataset that a selection uses.
_OF_DATASET: dict[str | None, Place] = {"scores": ("scores",), "tiers.by": ("tiers", "by")}


@dataclass(frozen=True)
class _Selected:
    """Rows of a part, in their order; (where, id, why) of those that cannot be used; samples without a score."""

    part: Part
    store: Store
    rows: Rows
    left_out: tuple[tuple[str, str, str], ...]
    unscored: int
    lengths: npt.NDArray[np.int32] | None


def make_selection(mixture: Mixture, cache: Path, out: Path, look: Look = FILES) -> Selection:
    """Select what a mixture says and write it to the folder `out`; one that is there and still holds is kept.

    Args:
        mixture: the parts, all of them with a `weight` or none.
        cache: folder of the stores.
        out: folder of the selection; appears whole or not at all.
        look: how closely at samples; with `on_bad_sample: skip` images must decode as well.

    Raises:
        SelectionError: a condition, order or weight that cannot be, or a part that selects nothing.
        BadSamplesError: samples that cannot be used, with `on_bad_sample: refuse`.
        SourceError: a dataset that cannot be read.
        RunError: no room, or no right, to write the cache or the selection.
    """
    stores = {source.name: open_store(source, cache, mixture.on_bad_sample) for source in mixture.sources.values()}
    shares = _weights(mixture)
    inputs = _inputs(mixture, stores, cache, look)
    with disk_errors(f"the selection {out}"), _locked(out, cache):
        kept = _kept(out, inputs, stores)
        if kept is None:
            selected = [
                _select(mixture, part, stores[part.source.name], cache, look)
                for part, share in zip(mixture.parts, shares, strict=True)
                if share != 0
            ]
            _write(out, mixture, selected, [share for share in shares if share != 0], inputs)
            kept = read_selection(out)
    return kept


@contextmanager
def _locked(out: Path, cache: Path) -> Iterator[None]:
    """One process at a time makes a selection; the lock is in the cache, out of the run directory."""
    out.parent.mkdir(parents=True, exist_ok=True)
    locks = cache / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"{digest(str(out.absolute()))}.lock"):
        yield


def _kept(out: Path, inputs: str, stores: dict[str, Store]) -> Selection | None:
    try:
        selection = read_selection(out)
    except DataError:
        return None
    there = {store.path for store in stores.values()}
    same = selection.inputs == inputs and all(part.store_path in there and part.is_whole() for part in selection.parts)
    return selection if same else None


def _inputs(mixture: Mixture, stores: dict[str, Store], cache: Path, look: Look) -> str:
    """Digest of the definition and of what its files contain, wherever they lie."""
    contents = {}
    for name, source in sorted(mixture.sources.items()):
        scores = None
        if source.scores is not None and Path(source.scores).expanduser().is_file():
            scores = content_digest([Path(source.scores).expanduser()], cache)
        contents[name] = [stores[name].content, scores, source.tiers and asdict(source.tiers)]
    parts = [[part.source.name, *(asdict(part)[name] for name in _DEFINING)] for part in mixture.parts]
    return digest(VERSION, mixture.key, mixture.seed, mixture.on_bad_sample, asdict(look), parts, contents)


_DEFINING = ("where", "fraction", "count", "weight", "repeat", "order_by")


def _weights(mixture: Mixture) -> list[int | None]:
    """Shares of the parts as whole numbers in the exact proportion of their weights; all None without weights."""
    given = [part.weight for part in mixture.parts]
    if all(weight is None for weight in given):
        return [None] * len(given)
    exact = []
    for part, weight in zip(mixture.parts, given, strict=True):
        if weight is None:
            text = "has no weight, and other parts have one"
            raise SelectionError(mixture, part, None, text, "give every part a weight, or none")
        if not math.isfinite(weight) or weight < 0:
            raise SelectionError(mixture, part, "weight", f"found a weight of {weight}, expected 0 or more")
        exact.append(Fraction(repr(weight)))
    if not sum(exact):
        text = "the weights of all parts sum to 0, so no part could come"
        raise SelectionError(
            mixture, mixture.parts[0], "weight", text, "give a part a weight above 0, or leave all out"
        )
    whole = [int(weight * math.lcm(*(weight.denominator for weight in exact))) for weight in exact]
    return [share // math.gcd(*whole) for share in whole]


def _select(mixture: Mixture, part: Part, store: Store, cache: Path, look: Look) -> _Selected:
    """The rows of one part: condition, usable images, draw, order."""
    skip = mixture.on_bad_sample == "skip"
    left_out = [(where, "", why) for where, why in store.left_out]
    with closing(connect()) as connection:
        try:
            columns, unscored = columns_of(part.source, store)
            connection.register("fields", columns)
            rows = matching(connection, part.where, columns.schema)
        except ColumnError as error:
            raise SelectionError(mixture, part, error.field, error.text, error.hint) from None
        except (ExpressionError, duckdb.Error) as error:
            raise SelectionError(mixture, part, "where", *described(error)) from None
        if skip:
            bad = unusable(store, rows, cache, look, decoded=True)
            left_out += [(store.where(row), store.id(row), why) for row, why in bad]
            rows = np.setdiff1d(rows, np.array([row for row, _ in bad], np.int64), assume_unique=True)
        rows = _drawn(connection, mixture, part, rows, store.rows)
        if part.order_by is not None:
            try:
                rows = ordered(connection, rows, part.order_by, columns.schema)
            except (ExpressionError, duckdb.Error) as error:
                raise SelectionError(mixture, part, "order_by", *described(error)) from None
    if not skip and (bad := unusable(store, rows, cache, look, decoded=False)):
        named = [(store.where(row), f"sample {store.id(row)}: {why}") for row, why in bad]
        raise BadSamplesError(named, str(store.source))
    return _Selected(part, store, rows, tuple(left_out), unscored, token_lengths(part.source, store, columns))


def _drawn(connection: duckdb.DuckDBPyConnection, mixture: Mixture, part: Part, rows: Rows, of: int) -> Rows:
    """The part's share of the rows that its condition left."""
    said = f"`{part.where}` selects {len(rows) or 'none'}" if part.where else f"there are {len(rows) or 'none'}"
    if not len(rows):
        hint = "see the values with `stepladder data show`; a comparison with a field that is null is never true"
        field = "where" if part.where else None
        raise SelectionError(mixture, part, field, f"{said} of {of} samples", hint)
    if part.count is not None:
        if part.count > len(rows):
            text = f"asks for {part.count} samples, and {said} of {of} samples"
            raise SelectionError(
                mixture, part, "count", text, "ask for fewer, or take samples several times by `repeat`"
            )
        return drawn(connection, rows, mixture.seed, part.count)
    if part.fraction is not None:
        return drawn(connection, rows, mixture.seed, share_of(part.fraction, len(rows)))
    return rows


def _write(out: Path, mixture: Mixture, selected: Sequence[_Selected], shares: list[int | None], inputs: str) -> None:
    """Write beside the place and rename, so that a reader never meets half a selection."""
    new = out.with_name(f".{out.name}.new-{os.getpid()}")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    parts = [_written(new, index, *entry) for index, entry in enumerate(zip(selected, shares, strict=True))]
    left_out = {
        (entry.part.source.name, *found): None for entry in selected for found in entry.left_out
    }  # two parts of one dataset leave the same samples out
    facts = {
        "version": VERSION,
        "kind": "selection",
        "mixture": mixture.name,
        "key": mixture.key,
        "seed": mixture.seed,
        "inputs": inputs,
        "fingerprint": digest(mixture.key, mixture.seed, [[part[name] for name in _TRAINED] for part in parts]),
        "length": sum(part["count"] * part["repeat"] for part in parts),
        "parts": parts,
        "left_out": len(left_out),
        "unscored": {entry.part.source.name: entry.unscored for entry in selected if entry.unscored},
    }
    with (new / "left_out.jsonl").open("w", encoding="utf-8") as file:
        for entry in left_out:
            file.write(json.dumps(dict(zip(("dataset", "where", "id", "why"), entry, strict=True))) + "\n")
    write_sealed(new / FILE, facts)
    shutil.rmtree(out, ignore_errors=True)
    new.rename(out)


#: What of a part decides which samples come when.
_TRAINED = ("dataset", "content", "digest", "share", "repeat", "shuffled")


def _written(folder: Path, index: int, selected: _Selected, share: int | None) -> dict[str, Any]:
    part, store, count = selected.part, selected.store, len(selected.rows)
    np.save(folder / f"part_{index}.npy", selected.rows)
    if selected.lengths is not None:
        np.save(folder / f"lengths_{index}.npy", selected.lengths)
    return {
        "dataset": part.source.name,
        "store": str(store.path),
        "store_rows": store.rows,
        "content": store.content,
        "digest": digest_of(selected.rows, selected.lengths),
        "folder": str(store.folder),
        "where": part.where,
        "rows": f"part_{index}.npy",
        "lengths": None if selected.lengths is None else f"lengths_{index}.npy",
        "count": count,
        "repeat": part.repeat,
        "share": count * part.repeat if share is None else share,
        "shuffled": part.order_by is None,
    }
