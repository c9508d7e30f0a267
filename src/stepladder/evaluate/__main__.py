"""``python -m stepladder.evaluate MODEL DATA [--train-data FILE]``: a table to stderr, one JSON line to stdout."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from stepladder.data.samples import DataError
from stepladder.evaluate.errors import EvaluationError
from stepladder.trainer.tiles import TilesError

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate as the command line says; 2 for input that cannot be used."""
    options = vars(_parser().parse_args(arguments))
    only_table = options.pop("table")
    try:
        from stepladder.evaluate.evaluation import Options, evaluate

        result = evaluate(Options(**options))
    except (DataError, TilesError, EvaluationError) as error:
        return _refuse(str(error))
    except ImportError as error:
        hint = "name an environment that has it with --python, or install stepladder[train] there"
        return _refuse(f"{sys.executable} cannot evaluate: {error}\nhint: {hint}")
    except KeyboardInterrupt:
        return INTERRUPTED
    if only_table:
        sys.stdout.write(result.to_table())
    else:
        sys.stderr.write(result.to_table())
        sys.stdout.write(json.dumps(result.to_json()) + "\n")
    return 0


def _refuse(text: str) -> int:
    sys.stderr.write(f"error: {text}\n")
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stepladder.evaluate", description=__doc__)
    parser.add_argument("model", help="folder or hub name of the model")
    parser.add_argument("data", type=Path, help="held-out samples: a data file, or the selection.json of a selection")
    parser.add_argument("--train-data", type=Path, help="training samples, for the baseline of their mean point")
    parser.add_argument("--max-tiles", type=_count, help="tiles an image; default: what the model was trained with")
    parser.add_argument("--share-tiles", action="store_true", help="the images of a sample share --max-tiles")
    parser.add_argument("--use-depth", action="store_true", help="depth maps are images as well, after the others")
    parser.add_argument("--batch-size", type=_count, default=8, help="samples answered at once")
    parser.add_argument("--limit", type=_count, help="draw this many of the samples, the same ones every time")
    parser.add_argument("--max-new-tokens", type=_count, default=24, help="length of an answer in tokens")
    parser.add_argument("--predictions", type=Path, help="file for one JSON line a sample")
    parser.add_argument("--table", action="store_true", help="print the table to stdout, and no JSON")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number from 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
