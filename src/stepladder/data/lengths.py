"""The order in which a selection is trained where samples of similar length come together.

Needs numpy and pyarrow; columns and lengths stay in their memory-mapped files.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from stepladder.data.selection import SelectedPart, Selection
from stepladder_worker.windows import WindowedOrder

#: For samples whose tokens nobody has counted: characters of a token, and tokens of an image.
CHARACTERS_A_TOKEN = 4
TOKENS_AN_IMAGE = 256

#: Tokenizers without a limit of their own state one of 1e30.
NO_LIMIT = 10**9

#: A part of a selection and a row of its store.
Entry = tuple[SelectedPart, int]


def estimate(characters: int, images: int) -> int:
    """About how many tokens a sample has."""
    return characters // CHARACTERS_A_TOKEN + TOKENS_AN_IMAGE * images


def window_of(args: Mapping[str, Any]) -> int:
    """What a stage's arguments say with `length_window`; 0 for nothing."""
    return int(args.get("length_window") or 0)


def trained_order(selection: Selection, window: int) -> Callable[[int], Entry]:
    """What comes at a position, which counts from 0 over all epochs.

    Args:
        selection: of the stage.
        window: the stage's `length_window`, see `WindowedOrder`; 0 leaves the selection's order as it is.
    """
    if not window:
        return selection.at
    parts = {part: _Lengths(part) for part in selection.parts}

    def lengths_of(entries: Sequence[Entry]) -> list[int]:
        return [parts[part].of(row) for part, row in entries]

    return WindowedOrder(selection.seed, selection.key, selection.length, window, selection.at, lengths_of).at


class _Lengths:
    """Lengths of a part's rows in tokens: those that somebody has counted, else estimates."""

    def __init__(self, part: SelectedPart) -> None:
        fields = part.store.fields
        self._counted = part.lengths
        self._characters, self._images = _Column(fields["characters"]), _Column(fields["image_count"])

    def of(self, row: int) -> int:
        if self._counted is not None and self._counted[row] >= 0:
            return int(self._counted[row])
        return estimate(self._characters[row], self._images[row])


class _Column:
    """Random access to a column of whole numbers without null, in place."""

    def __init__(self, column: Any) -> None:
        self._chunks = [np.asarray(chunk.to_numpy(zero_copy_only=False)) for chunk in column.chunks]
        self._firsts = [0, *accumulate(len(chunk) for chunk in self._chunks)]

    def __getitem__(self, row: int) -> int:
        chunk = bisect_right(self._firsts, row) - 1
        return int(self._chunks[chunk][row - self._firsts[chunk]])
