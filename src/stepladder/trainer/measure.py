"""A figure for every sample: ``python -m stepladder.trainer.measure --model M --data FILE --by length --out FILE``.

`length` is what a sample has in tokens when it is trained, its images as many as their tiles are. `loss` is the mean
loss of the tokens that would be trained, without training. Progress goes to stderr, one JSON line to stdout.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from stepladder.data.samples import DataError
from stepladder.trainer.lengths import UNTRAINED
from stepladder.trainer.loading import TrainingData, load_training
from stepladder.trainer.messages import said
from stepladder.trainer.model import load_processor, load_weights
from stepladder.trainer.prepared import Prepared, Preparer
from stepladder.trainer.tiles import TilesError

VERSION = 1

#: Seconds between two lines of progress.
_TOLD_EVERY = 5.0

Figures = Callable[[Mapping[str, Any]], list[float]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the command line says; 2 for input that cannot be used."""
    options = _parser().parse_args(arguments)
    try:
        processor = load_processor(options.model, options.max_tiles, options.share_tiles)
        data = load_training(
            options.data, seed=0, keep_messages=options.assistant_only_loss, use_depth=options.use_depth
        )
        found, bad = _measured(options, data, processor)
    except (DataError, TilesError) as error:
        sys.stderr.write(f"error: {said(error)}\n")
        return 2
    except OSError as error:  # what transformers raises for a model that is not there
        reason = str(error).splitlines()[0]
        sys.stderr.write(f"error: {options.model} cannot be loaded: {reason}\nhint: name the folder of a model\n")
        return 2
    _write(options.out, options.by, found)
    sys.stdout.write(json.dumps(_summary(options, found, bad)) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stepladder.trainer.measure", description=__doc__)
    parser.add_argument("--model", required=True, help="folder or hub name of the model")
    parser.add_argument("--data", type=Path, required=True, help="a data file, or the selection.json of a stage")
    parser.add_argument("--by", choices=["length", "loss"], required=True)
    parser.add_argument("--out", type=Path, required=True, help="Parquet file with the columns id and length or loss")
    parser.add_argument("--limit", type=int, help="measure so many samples, the first of the order")
    parser.add_argument("--max_tiles", type=int, help="tiles an image, as in training")
    parser.add_argument("--share_tiles", action="store_true", help="max_tiles is for all images of a sample together")
    parser.add_argument("--use_depth", action="store_true", help="depth maps are further images")
    parser.add_argument("--assistant_only_loss", action="store_true", help="train every turn of the assistant")
    parser.add_argument("--batch_size", type=int, default=8, help="samples measured at once")
    parser.add_argument("--workers", type=int, default=0, help="data workers")
    parser.add_argument("--skip_bad", action="store_true", help="name a sample that cannot be loaded, and go on")
    return parser


def _measured(options: argparse.Namespace, data: TrainingData, processor: Any) -> tuple[dict[str, float], list[str]]:
    """(figure by sample id, what was said of samples that cannot be loaded)."""
    figures = _lengths if options.by == "length" else _losses(load_weights(options.model, dtype="float32"))
    # A repeated sample comes once.
    rows = list(itertools.islice(_distinct(map(data.order, range(data.length))), options.limit))
    loader: DataLoader[Any] = DataLoader(
        rows,  # type: ignore[arg-type]
        batch_size=options.batch_size,
        collate_fn=Preparer(data.dataset, processor, options.assistant_only_loss),
        num_workers=options.workers,
    )
    found: dict[str, float] = {}
    bad: list[str] = []
    for prepared in _told(loader, len(rows), options.batch_size):
        for text in prepared.bad:
            if not options.skip_bad:
                raise DataError(text)
            sys.stderr.write(f"left out: {text}\n")
            bad.append(text)
        if prepared.batch is not None:
            for name, figure in zip(prepared.names, figures(prepared.batch), strict=True):
                found.setdefault(name, figure)
    return found, bad


def _distinct(rows: Iterable[int]) -> Iterator[int]:
    seen: set[int] = set()
    for row in rows:
        if row not in seen:
            seen.add(row)
            yield row


def _told(loader: Any, samples: int, batch_size: int) -> Iterator[Prepared]:
    """The loader's batches, with a line of progress now and then."""
    last = time.monotonic()
    for number, prepared in enumerate(loader, start=1):
        yield prepared
        if time.monotonic() - last > _TOLD_EVERY:
            last = time.monotonic()
            sys.stderr.write(f"{min(number * batch_size, samples):,} of {samples:,} samples\n")


def _lengths(batch: Mapping[str, Any]) -> list[float]:
    found: list[float] = batch["attention_mask"].sum(dim=1).tolist()
    return found


def _losses(model: Any) -> Figures:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).eval()

    @torch.inference_mode()
    def losses(batch: Mapping[str, Any]) -> list[float]:
        inputs = {name: value.to(device) for name, value in batch.items() if name != "labels"}
        labels = batch["labels"].to(device)[:, 1:]
        logits = model(**inputs).logits[:, :-1].float()
        each = cross_entropy(logits.transpose(1, 2), labels, ignore_index=UNTRAINED, reduction="none")
        found: list[float] = (each.sum(dim=1) / (labels != UNTRAINED).sum(dim=1)).tolist()
        return found

    return losses


def _write(path: Path, by: str, found: Mapping[str, float]) -> None:
    """The file appears whole or not at all."""
    kind = pa.int32() if by == "length" else pa.float64()
    table = pa.table({"id": pa.array(found.keys(), pa.string()), by: pa.array(found.values(), kind)})
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    pq.write_table(table, partial)
    partial.replace(path)


def _summary(options: argparse.Namespace, found: Mapping[str, float], bad: Sequence[str]) -> dict[str, Any]:
    values = list(found.values())
    spread = {"min": min(values), "median": statistics.median(values), "max": max(values)} if values else {}
    return {
        "version": VERSION,
        "by": options.by,
        "out": str(options.out),
        "samples": len(found),
        "left_out": len(bad),
        "mean": statistics.fmean(values) if values else None,
        **spread,
    }


if __name__ == "__main__":
    sys.exit(main())
