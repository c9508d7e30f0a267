"""The built-in trainer and its data in the test's own process."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stepladder.data.mixture import Mixture, Part, Source
from stepladder.data.select import make_selection

WORDS = Path(__file__).read_text("utf-8").split()

#: TRL sets the old name by default, whatever we pass.
TRL_WARNING = "ignore:`gradient_checkpointing` is deprecated:FutureWarning"


def trainer_of(model: Path, data: Path, output: Path, max_tiles: int | None = None, **options: Any) -> Any:
    """The script's own trainer, as its __main__ makes it."""
    from stepladder.trainer.arguments import ScriptArguments, TrainerConfig
    from stepladder.trainer.loading import load_training
    from stepladder.trainer.model import load_model
    from stepladder.trainer.sft import OrderedSFTTrainer

    config = TrainerConfig(output_dir=str(output), use_cpu=True, dataloader_pin_memory=False, **options)
    script = ScriptArguments(str(model), str(data), max_tiles=max_tiles)
    loaded, processor = load_model(script, config)
    return OrderedSFTTrainer(
        model=loaded,
        args=config,
        data=load_training(data, seed=config.seed, keep_messages=config.assistant_only_loss, use_depth=False),
        processing_class=processor,
    )


def write_texts(path: Path, count: int) -> Path:
    """Texts of 1 to 60 words."""
    draw = random.Random(0)
    rows = [{"id": f"t{i}", "text": " ".join(draw.choices(WORDS, k=draw.randint(1, 60)))} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def select(folder: Path, *paths: Path, scores: Path | None = None, **options: Any) -> Path:
    """A selection of all of these files; `options` of Part hold for each."""
    values = {"where": None, "fraction": None, "count": None, "weight": None, "repeat": 1, "order_by": None, **options}
    score_file = None if scores is None else str(scores)
    parts = tuple(Part(Source(path.stem, str(path), None, score_file, None), **values) for path in paths)
    selection = make_selection(Mixture("mixed", parts, 0, "refuse"), folder / "cache", folder / "selected")
    return selection.path / "selection.json"


def load(path: Path, use_depth: bool = False, length_window: int = 0) -> Any:
    from stepladder.trainer.loading import load_training

    return load_training(path, seed=7, keep_messages=False, use_depth=use_depth, length_window=length_window)


def drawn(data: Any, positions: Sequence[int]) -> list[dict[str, Any]]:
    """Samples at these positions, fetched together as a data worker does."""
    return list(data.dataset.__getitems__([data.order(position) for position in positions]))
