"""Samples of a stage measured in tokens, by the built-in trainer in the stage's interpreter."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pyarrow.parquet as pq

from stepladder.curriculum.spec import BUILT_IN
from stepladder.planning.plan import Plan, PlannedStage

#: Arguments of a stage that change how long its samples are, beside `max_tiles`.
SWITCHES = ("share_tiles", "use_depth", "assistant_only_loss")

#: torch and transformers take their time to load, and a sample of large images a second.
MOST_SECONDS = 1800


class NotMeasuredError(Exception):
    """Why a stage's samples were not measured, as a phrase."""


def tokenizer_of(plan: Plan, stage: PlannedStage) -> Path:
    """The model whose tokenizer and image processor a stage uses, where there is one already.

    A later stage starts from what is not trained yet, and takes them over from the stage before.

    Raises NotMeasuredError.
    """
    models = [Path(earlier.model) for earlier in plan.stages[: stage.index]]
    for model in reversed(models):
        if (model / "config.json").is_file():
            return model
    raise NotMeasuredError(f"there is no model {models[0]} yet")


def argv_of(stage: PlannedStage, model: str | Path, selection: Path, out: Path, by: str) -> list[str]:
    """The command that measures a selection as the stage trains it; see stepladder.trainer.measure."""
    argv = [stage.python, "-m", "stepladder.trainer.measure", "--model", str(model), "--data", str(selection)]
    argv += ["--by", by, "--out", str(out)]
    argv += [f"--{name}" for name in SWITCHES if stage.args.get(name)]
    if stage.args.get("max_tiles") is not None:
        argv += ["--max_tiles", str(stage.args["max_tiles"])]
    return argv


def measure(stage: PlannedStage, model: Path, selection: Path, out: Path, count: int) -> list[tuple[str, int]]:
    """(id, tokens) of `count` samples of a selection, as the stage trains them.

    Args:
        stage: its interpreter, environment, and what its arguments say of images and answers.
        model: see `tokenizer_of`.
        selection: path of the selection.json.
        out: Parquet file to write.
        count: samples.

    Raises NotMeasuredError.
    """
    if stage.script != BUILT_IN:
        raise NotMeasuredError(f"only the built-in trainer can count them, not {stage.script}")
    argv = [*argv_of(stage, model, selection, out, "length"), "--limit", str(count), "--skip_bad"]
    env = {**os.environ, **stage.env}
    try:
        done = subprocess.run(
            argv, env=env, capture_output=True, text=True, errors="replace", timeout=MOST_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise NotMeasuredError(f"no answer within {MOST_SECONDS} s") from None
    except OSError as error:
        raise NotMeasuredError(f"{stage.python} does not run: {error.strerror}") from None
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("hint:")]
        raise NotMeasuredError((said or [f"exit code {done.returncode}"])[-1].strip())
    table = pq.read_table(out)
    if not table.num_rows:
        raise NotMeasuredError("none of the samples can be loaded")
    return list(zip(table["id"].to_pylist(), table["length"].to_pylist(), strict=True))
