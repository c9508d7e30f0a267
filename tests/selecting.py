"""Datasets and mixtures for tests of stores and selections, made without a curriculum file."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from stepladder.data.mixture import Mixture, Part, Source, Tiers

#: The reference's three mixtures, as a curriculum says them.
REFERENCE = {
    "pos_only": "not meta.is_neg",
    "pos_tierA": "not meta.is_neg or meta.neg_type = 'tierA'",
    "all": None,
}


def reference_records(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Samples as the reference has them, with two images that all of them share."""
    draw = random.Random(seed)
    records = []
    for number in range(count):
        tier = draw.choice([None, None, None, "tierA", "tierA", "tierB", "tierC"])
        answer = "NOT_VISIBLE" if tier else f"[({draw.random():.3f}, {draw.random():.3f})]"
        records.append(
            {
                "id": f"scene{draw.randrange(20)}_uid{number}",
                "image": ["A.png", "B.png"],
                "conversations": [{"from": "human", "value": "Where is it?"}, {"from": "gpt", "value": answer}],
                "meta": {
                    "uid": number,
                    "is_neg": tier is not None,
                    "neg_type": tier,
                    "mask_area": None if tier else draw.randrange(1, 50),
                },
            }
        )
    return records


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def reference_file(folder: Path, count: int = 500) -> Path:
    """`folder/all.jsonl` with its two images."""
    path = write_jsonl(folder / "all.jsonl", reference_records(count))
    for name, colour in [("A.png", "red"), ("B.png", "blue")]:
        Image.new("RGB", (24, 16), colour).save(folder / name)
    return path


def source(path: Path, scores: Path | None = None, tiers: Tiers | None = None, name: str = "crossview") -> Source:
    return Source(name, str(path), None, None if scores is None else str(scores), tiers)


def part(of: Source | Path, **fields: Any) -> Part:
    defaults = {"where": None, "fraction": None, "count": None, "weight": None, "repeat": 1, "order_by": None}
    return Part(source(of) if isinstance(of, Path) else of, **{**defaults, **fields})


def mixture(*parts: Part, seed: int = 0, on_bad_sample: str = "refuse", name: str = "mix") -> Mixture:
    return Mixture(name, parts, seed, on_bad_sample)
