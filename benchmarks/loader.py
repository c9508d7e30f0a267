"""The built-in trainer's loader: ``python benchmarks/loader.py [--out FOLDER]``, one JSON object to stdout.

- `images`: samples per second at 2 images x 4 tiles (rendered rooms, tiny Idefics3), of the trainer's loader on a
  selection without and with data workers, and of a plain loop over the processor.
- `padding`: share of padding in batches of texts of mixed lengths, by `length_window`.
- `seek`: seconds from the start of a pass to its first batch, at positions of an epoch of 20 million samples, on the
  first of two ranks; `walked` is the same for a sampler that cannot begin anywhere.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

TILES, BATCH = 4, 4
SCENES, SAMPLES = 10, 96
TEXTS, TEXT_BATCH, WINDOWS = 4096, 8, (0, 256, 1024, 4096)
EPOCH, POSITIONS, WALKED = 20_000_000, (10, 10_000_000), 1_000_000


def main() -> int:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for data and models, kept; default: a temporary one")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as temporary:
        folder = (out or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        found = {
            "version": 1,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "images": images(folder),
            "padding": padding(folder),
            "seek": seek(folder),
        }
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return 0


def images(folder: Path) -> dict[str, Any]:
    """Samples per second, rounded to 0.1."""
    data, model = folder / "rooms", folder / "idefics3"
    if not data.exists():
        command = [sys.executable, "-m", "stepladder.data.rooms", str(data), "--scenes", str(SCENES)]
        subprocess.run(command, check=True, stdout=sys.stderr)
    build(model, "idefics3", [data / "all.jsonl"])
    selection = select(folder / "images", data / "all.jsonl")
    loaders = {
        f"workers_{workers}": trainer(
            model,
            selection,
            max_tiles=TILES,
            per_device_train_batch_size=BATCH,
            dataloader_num_workers=workers,
        ).get_train_dataloader()
        for workers in (0, 2)
    }
    figures = {name: per_second(loader) for name, loader in loaders.items()}
    return {"tiles": TILES, "batch": BATCH, "samples": SAMPLES, **figures, "plain_loop": per_second(plain(model, data))}


def plain(model: Path, data: Path) -> Iterator[Any]:
    """What one would write without a library: open the images, fill in the template, call the processor."""
    from PIL import Image
    from transformers import AutoProcessor

    from stepladder.trainer.tiles import limit_tiles

    processor = AutoProcessor.from_pretrained(model)
    limit_tiles(processor, "idefics3", TILES)
    lines = [json.loads(line) for line in (data / "all.jsonl").read_text("utf-8").splitlines()]
    while True:
        for start in range(0, len(lines) - BATCH + 1, BATCH):
            texts, pictures = [], []
            for line in lines[start : start + BATCH]:
                question, answer = (turn["value"] for turn in line["conversations"])
                content = [*({"type": "image"} for _ in line["image"]), {"type": "text", "text": question}]
                turns = [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
                texts.append(processor.apply_chat_template(turns))
                pictures.append([Image.open(data / name).convert("RGB") for name in line["image"]])
            yield processor(images=pictures, text=texts, padding=True, return_tensors="pt")


def per_second(batches: Iterable[Any]) -> float:
    """Samples per second after a first batch, which starts the workers."""
    endless = itertools.chain.from_iterable(itertools.repeat(batches))
    next(endless)
    begun = time.perf_counter()
    for _ in range(SAMPLES // BATCH):
        next(endless)
    return round(SAMPLES / (time.perf_counter() - begun), 1)


def padding(folder: Path) -> dict[str, float]:
    """Share of padding tokens by `length_window`, over one epoch of texts of 5 to 400 words (log-normal)."""
    draw = random.Random(0)
    words = Path(__file__).read_text("utf-8").split()
    path = folder / "texts.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(TEXTS):
            length = min(400, max(5, round(draw.lognormvariate(math.log(60), 0.8))))
            file.write(json.dumps({"id": f"t{number}", "text": " ".join(draw.choices(words, k=length))}) + "\n")
    model = folder / "llama"
    build(model, "llama", [Path(__file__)])
    selection = select(folder / "texts", path)
    found = {}
    for window in WINDOWS:
        made = trainer(model, selection, length_window=window, per_device_train_batch_size=TEXT_BATCH)
        masks = [batch["attention_mask"] for batch in made.get_train_dataloader()]
        cells, tokens = sum(mask.numel() for mask in masks), sum(int(mask.sum()) for mask in masks)
        found[f"window_{window}"] = round(1 - tokens / cells, 4)
    return found


def seek(folder: Path) -> dict[str, float]:
    """Seconds to the first batch, through the worker's batch sampler and accelerate's, as in training."""
    from stepladder.trainer.sampler import OrderedSampler
    from stepladder_worker import session
    from stepladder_worker.contract import Handover, StageTask
    from stepladder_worker.order import MixtureOrder, PartOrder

    files = [str(folder / name) for name in ("result.json", "heartbeat.json", "control.json")]
    task: list[Any] = ["run", "one", 1, 1, True, 0, 10, 0, str(folder), None, Handover(), None, {}, None, None, False]
    session.start(StageTask(*task, *files), "digest")
    order = MixtureOrder(0, "seek", [PartOrder(EPOCH // 4, 1, True), PartOrder(EPOCH // 4 * 3, 3, True)])
    sampler = OrderedSampler(EPOCH, lambda position: order.at(position)[1])
    found = {f"at_{position:,}": first_batch(sampler, position) for position in POSITIONS}
    return {**found, f"walked_to_{WALKED:,}": first_batch(Walking(sampler), WALKED)}


class Walking:
    """A sampler as others write them: it only knows how to begin at the beginning."""

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler

    def __iter__(self) -> Iterator[int]:
        return iter(self._sampler)

    def __len__(self) -> int:
        return len(self._sampler)


def first_batch(sampler: Any, position: int) -> float:
    """Seconds until the first micro-batch of a pass that begins at `position` is drawn."""
    from accelerate import PartialState
    from accelerate.data_loader import prepare_data_loader
    from torch.utils.data import DataLoader

    from stepladder_worker.hooks.data_batches import record

    PartialState(cpu=True)
    loader: Any = DataLoader(range(EPOCH), batch_size=1, sampler=sampler)  # type: ignore[arg-type]
    batches: Any = record(prepare_data_loader(loader, num_processes=2, process_index=0), 2, enforcing=True)
    begun = time.perf_counter()
    batches.start_at(0, position)
    next(iter(batches))
    return round(time.perf_counter() - begun, 6)


def build(folder: Path, kind: str, texts: Sequence[Path]) -> None:
    """A tiny model, unless it is there."""
    from stepladder.trainer import tiny

    if not folder.exists():
        tiny.build(folder, kind, texts)


def select(folder: Path, path: Path) -> Path:
    """A selection of a whole file."""
    from stepladder.data.mixture import Mixture, Part, Source
    from stepladder.data.select import make_selection

    source = Source(path.stem, str(path), None, None, None)
    mixture = Mixture(path.stem, (Part(source, None, None, None, None, 1, None),), 0, "refuse")
    return make_selection(mixture, folder / "cache", folder / "selected").path / "selection.json"


def trainer(model: Path, data: Path, max_tiles: int | None = None, length_window: int = 0, **options: Any) -> Any:
    """The built-in script's trainer on a selection."""
    from stepladder.trainer.arguments import ScriptArguments, TrainerConfig
    from stepladder.trainer.loading import load_training
    from stepladder.trainer.model import load_model
    from stepladder.trainer.sft import OrderedSFTTrainer

    config = TrainerConfig(output_dir=str(model / "out"), use_cpu=True, dataloader_pin_memory=False, **options)
    loaded, processor = load_model(ScriptArguments(str(model), str(data), max_tiles=max_tiles), config)
    training = load_training(data, seed=0, keep_messages=False, use_depth=False, length_window=length_window)
    return OrderedSFTTrainer(model=loaded, args=config, data=training, processing_class=processor)


if __name__ == "__main__":
    sys.exit(main())
