"""``python -m stepladder.evaluate MODEL DATA [--train-data FILE]``: a table to stderr, one JSON line to stdout."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from stepladder.evaluate.metrics import Outcome, format_answer, metrics, parse_answer
from stepladder.evaluate.task import Task, constant_baseline, outcome, read_tasks
from stepladder.trainer.samples import DataError
from stepladder.trainer.tiles import TilesError

VERSION = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate as the command line says; 2 for input that cannot be used."""
    options = _parser().parse_args(arguments)
    try:
        tasks = read_tasks(options.data)
        answer, baseline = constant_baseline(tasks, options.train_data)
        texts = _generate(options, tasks)
    except (DataError, TilesError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2

    outcomes = [outcome(task, parse_answer(text)) for task, text in zip(tasks, texts, strict=True)]
    if options.predictions is not None:
        _write_predictions(options.predictions, tasks, texts, outcomes)

    figures = metrics(outcomes)
    sys.stderr.write(_table(figures, baseline, format_answer(answer), len(tasks)))
    baseline_line = {"answer": format_answer(answer), **baseline}
    line = {"version": VERSION, "n": len(tasks), "metrics": figures, "baseline": baseline_line}
    sys.stdout.write(json.dumps(line) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stepladder.evaluate", description=__doc__)
    parser.add_argument("model", help="folder or hub name of the model")
    parser.add_argument("data", type=Path, help="held-out samples, in the format of the training data")
    parser.add_argument(
        "--train-data", type=Path, help="training samples, for the baseline that answers their mean point"
    )
    parser.add_argument("--max-tiles", type=int, help="tiles an image; default: what the model was trained with")
    parser.add_argument("--batch-size", type=int, default=8, help="samples answered at once")
    parser.add_argument("--max-new-tokens", type=int, default=24, help="length of an answer in tokens")
    parser.add_argument("--predictions", type=Path, help="file for one JSON line a sample")
    return parser


def _generate(options: argparse.Namespace, tasks: Sequence[Task]) -> list[str]:
    from stepladder.evaluate import generate  # torch and transformers, which take seconds: input is checked first

    model, processor = generate.load(options.model, options.max_tiles)
    samples = [task.sample for task in tasks]
    return list(generate.answers(model, processor, samples, options.batch_size, options.max_new_tokens))


def _write_predictions(path: Path, tasks: Sequence[Task], texts: Sequence[str], outcomes: Sequence[Outcome]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for task, text, result in zip(tasks, texts, outcomes, strict=True):
            line = {
                "id": task.sample.id,
                "text": text,
                "predicted": result.predicted,
                "truth": result.truth,
                "on_mask": result.on_mask,
                "neg_type": task.sample.meta.get("neg_type"),
            }
            file.write(json.dumps(line) + "\n")


def _table(figures: Mapping[str, float | None], baseline: Mapping[str, float | None], answer: str, samples: int) -> str:
    lines = [f"{f'{samples} samples':<22}{'model':>8}{f'always {answer}':>28}"]
    lines += [f"{name:<22}{_figure(value):>8}{_figure(baseline[name]):>28}" for name, value in figures.items()]
    return "\n".join(lines) + "\n"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())
