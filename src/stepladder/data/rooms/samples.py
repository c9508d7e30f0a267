"""The rooms' mixtures as JSONL files in the root of the layout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from stepladder.data.build.pairs import Pair
from stepladder.data.build.samples import to_sample

#: Training file -> the kinds of samples in it (None: positives). Each contains the one before.
MIXTURES: dict[str, tuple[str | None, ...]] = {
    "pos_only.jsonl": (None,),
    "pos_tierA.jsonl": (None, "tierA"),
    "all.jsonl": (None, "tierA", "tierB", "tierC"),
}
EVALUATION = "eval.jsonl"


def write_mixtures(root: Path, pairs: Sequence[Pair], point_rule: str) -> dict[str, int]:
    """Write the training files, each in the order of `pairs`; returns the number of samples by file."""
    counts = {}
    for name, kinds in MIXTURES.items():
        chosen = [pair for pair in pairs if pair.tier in kinds]
        write_samples(root / name, chosen, point_rule)
        counts[name] = len(chosen)
    return counts


def write_samples(path: Path, pairs: Iterable[Pair], point_rule: str) -> None:
    """Write one JSONL file."""
    path.write_text("".join(json.dumps(to_sample(pair, point_rule)) + "\n" for pair in pairs), encoding="utf-8")
