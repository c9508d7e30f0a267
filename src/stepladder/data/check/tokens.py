"""What the lengths of samples in tokens say of a stage: how many are too long, and the share of padding."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepladder.data.lengths import NO_LIMIT
from stepladder.planning.plan import PlannedStage


@dataclass(frozen=True)
class Tokens:
    """The lengths of some samples of a stage.

    Attributes:
        stage: its name.
        samples: how many were measured.
        shortest, longest: tokens of a sample, images and answer included.
        limit: tokens a sample may have; None without a limit.
        too_long: how many are longer.
        padding: share of padding in the micro-batches, in the order of the stage, and grouped by `length_window`.
    """

    stage: str
    samples: int
    shortest: int
    longest: int
    limit: int | None
    too_long: int
    padding: tuple[float, float]


def tokens_of(stage: PlannedStage, model: Path, lengths: Sequence[int]) -> Tokens:
    """What the lengths of samples, in the order of the stage, say of the stage.

    Args:
        stage: its arguments and batch.
        model: folder of the tokenizer.
        lengths: tokens as trained, at least one sample.
    """
    limit = limit_of(stage.args, model)
    too_long = 0 if limit is None else sum(length > limit for length in lengths)
    # Within a window of `length_window` samples, batches hold neighbours in length: docs/data.md.
    shares = (padding(lengths, stage.batch.per_device), padding(sorted(lengths), stage.batch.per_device))
    return Tokens(stage.name, len(lengths), min(lengths), max(lengths), limit, too_long, shares)


def padding(lengths: Sequence[int], per_device: int) -> float:
    """Share of padding in batches of `per_device` samples, each as long as its longest sample."""
    batches = [lengths[start : start + per_device] for start in range(0, len(lengths), per_device)]
    return 1 - sum(lengths) / sum(max(batch) * len(batch) for batch in batches)


def limit_of(args: Mapping[str, Any], model: Path) -> int | None:
    """Tokens a sample of a stage may have: `max_length` or `model_max_length` if given, at most the tokenizer's own."""
    stated = [args.get("max_length"), args.get("model_max_length"), _of_tokenizer(model)]
    limits = [int(value) for value in stated if isinstance(value, int | float) and 0 < value < NO_LIMIT]
    return min(limits, default=None)


def _of_tokenizer(model: Path) -> Any:
    try:
        return json.loads((model / "tokenizer_config.json").read_text("utf-8")).get("model_max_length")
    except (OSError, ValueError, AttributeError):
        return None
