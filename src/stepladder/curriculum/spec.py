"""What a person writes: the curriculum file, typed and frozen. See docs/curriculum.md.

The models hold shapes and ranges. What a curriculum must satisfy beyond them is in `checks/`.
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue
from pydantic_core import PydanticCustomError

_STAGE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_NAME_RULE = "1 to 64 letters, digits, `.`, `_` or `-`, not starting with `.`"
_DATA_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
#: Seconds of a day, an hour, a minute, a second.
_UNITS = (86400, 3600, 60, 1)
_DATA_NAME_RULE = "letters, digits, `.`, `_` or `-`, starting with a letter"


def _stage_name(text: str) -> str:
    if not _STAGE_NAME.fullmatch(text):
        raise PydanticCustomError("expected", _NAME_RULE)
    return text


def _data_name(text: str) -> str:
    if not _DATA_NAME.fullmatch(text):
        raise PydanticCustomError("expected", _DATA_NAME_RULE)
    return text


#: Text with at least one character.
Text = Annotated[str, Field(min_length=1)]

#: A path as written; only a leading `~` is replaced, since no shell will do it.
PathText = Annotated[Text, AfterValidator(os.path.expanduser)]

#: A stage's name is part of file names, so it may not leave the run directory.
StageName = Annotated[str, AfterValidator(_stage_name)]


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


#: The value of an environment variable; `CUDA_VISIBLE_DEVICES: 0` needs no quotes.
EnvText = Annotated[str, BeforeValidator(_as_text)]


def _as_seconds(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    found = _DURATION.fullmatch(value.strip())
    if found is None or not value.strip():
        raise PydanticCustomError("expected", "a number of seconds, or a duration such as `45s`, `30m` or `1d2h30m`")
    return float(sum(int(number or 0) * unit for number, unit in zip(found.groups(), _UNITS, strict=True)))


#: A duration in seconds; text such as `2h30m` is one as well.
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_as_seconds)]

#: Name of a dataset or a mixture, as an expression can hold it.
DataName = Annotated[str, AfterValidator(_data_name)]

Args = dict[str, JsonValue]

#: Patterns over names, in order; a leading `!` takes away.
Patterns = Annotated[list[Text], Field(min_length=1)]


class _Model(BaseModel):
    # Strict: a budget of "40", 40.5 or true is a slip of the pen, not a number of steps.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class Launcher(_Model):
    """How many processes train a stage."""

    nproc_per_node: int = Field(default=1, ge=1)
    """Training processes on the machine, one a device."""
    nnodes: int = Field(default=1, ge=1)
    """Machines. Only 1 until a cluster launcher exists."""


class HandoverSpec(_Model):
    """What a boundary carries besides the weights. A stage states only what differs from the curriculum."""

    optimizer: Literal["keep", "reset"] = "keep"
    """keep: every moment and step counter; reset: a fresh optimizer. Left out, another objective resets it."""
    rng: Literal["keep", "reset"] = "keep"
    """keep: the random state at the end of the stage before; reset: the script's own seed."""
    data: Literal["fresh", "continue"] = "fresh"
    """fresh: the stage's data from its first sample; continue: on from the next sample of the stage before."""


class Tiers(_Model):
    """Cuts a dataset into tiers by quantile: its samples get the column `tier`, 0 for the lowest values."""

    by: Text
    """A column or an SQL expression over the sample's fields, for example `loss` or `meta.mask_area`."""
    at: list[Annotated[float, Field(gt=0, lt=1)]] = Field(min_length=1)
    """Quantiles, rising, between 0 and 1: `[0.5, 0.8]` makes three tiers."""


class Dataset(_Model):
    """Samples in a file or a folder."""

    path: PathText
    """A .jsonl, .json, .parquet, .txt or .tar file, or a folder: of .tar files, or saved by `datasets`."""
    format: Literal["jsonl", "json", "parquet", "txt", "webdataset", "datasets"] | None = None
    """How to read it; left out, the name says."""
    image_folder: PathText | None = None
    """Folder that the names of images start at and may not leave; left out, the one that holds the file."""
    scores: PathText | None = None
    """A Parquet file of `stepladder data score`: columns by sample `id`, for `where`, `order_by` and `tiers`."""
    tiers: Tiers | None = None
    """Cuts the dataset into tiers by quantile, as the column `tier`."""


class Part(_Model):
    """Some samples of one dataset."""

    dataset: Text
    """Name of a dataset; where nothing else is said, also of a mixture, or an expression such as `a + b*3`."""
    where: Text | None = None
    """SQL condition over the sample's fields; left out, every sample."""
    fraction: float | None = Field(default=None, gt=0, le=1)
    """Share of the samples that `where` leaves, drawn by the seed; the 25 % is part of the 50 %."""
    count: int | None = Field(default=None, ge=1)
    """Samples to draw, instead of `fraction`."""
    weight: float | None = Field(default=None, ge=0)
    """Share of the positions in relation to the other parts; left out in all, every sample comes equally often."""
    repeat: int = Field(default=1, ge=1)
    """How often each sample comes in an epoch of the mixture."""
    order_by: Text | None = None
    """Column or SQL expression to order the samples by, easy to hard, instead of shuffling; `desc` turns it round."""


def _as_parts(value: Any) -> Any:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list):
        return value
    return [{"dataset": item} if isinstance(item, str) else item for item in items]


#: What makes a mixture: text is one part that may be an expression, `a + b*3`.
Parts = Annotated[list[Part], Field(min_length=1), BeforeValidator(_as_parts)]


class DataSpec(_Model):
    """Datasets and the mixtures made of them; may stand in a file of its own, named as `data: FILE`."""

    datasets: dict[DataName, Dataset] = Field(min_length=1)
    """By name."""
    mixtures: dict[DataName, Parts] = Field(default_factory=dict)
    """By name: a list of parts, or an expression such as `a + b*3`."""
    evaluation: list[Text] = Field(default_factory=list)
    """Datasets that no stage may train on; `stepladder data check` looks for leakage."""
    seed: int = Field(default=0, ge=0)
    """Of every draw: fractions, counts and the order of the samples."""
    on_bad_sample: Literal["refuse", "skip"] = "refuse"
    """refuse: a sample that cannot be used ends the run before it trains; skip: it is left out, counted and listed."""
    cache: PathText = "~/.cache/stepladder"
    """Folder of the stores: each dataset's records, converted once and mapped into memory by every process."""


class Retries(_Model):
    """When a stage is launched again by itself. Only causes that another attempt can help are (docs/diagnosis.md)."""

    limit: int = Field(default=0, ge=0)
    """Launches after the first one of a stage in one `run`; a rung of `on_oom` costs none."""
    pause: Seconds = 30.0
    """Seconds before the first of them; each further one waits twice as long, at most ten minutes."""


class Hang(_Model):
    """After how many seconds without progress of a process the stage is stopped as hung, by what it is doing."""

    step: Seconds = 600.0
    """Between two optimizer steps, at the least: steps that took long raise it to twenty times the longest."""
    start: Seconds = 3600.0
    """Before the first step, without a new line in the log."""
    save: Seconds = 3600.0
    """Writing a checkpoint."""
    evaluate: Seconds = 3600.0
    """Between two batches of an evaluation within training."""


class Prepare(_Model):
    """A command that runs once, before the first stage, while `creates` does not exist."""

    run: list[Text] = Field(min_length=1)
    """Command and arguments, no shell. `{python}` is the interpreter that runs Stepladder."""
    creates: PathText
    """Path of the file or directory that the command makes."""


class Evaluate(_Model):
    """What runs after each stage: the built-in evaluation of `data`, or a command; the result is recorded."""

    data: PathText | None = None
    """Held-out samples: a file, or what `data:` knows: a dataset, a mixture, an expression. Either this or `run`."""
    limit: int | None = Field(default=None, ge=1)
    """How many samples of `data` to draw, the same ones after every stage; left out, all."""
    batch_size: int | None = Field(default=None, ge=1)
    """Samples of `data` answered at once; left out, 8."""
    run: list[Text] | None = Field(default=None, min_length=1)
    """A command, no shell; with {python} {model} {stage_dir} {checkpoint} {name} {index} {predictions}."""


class Stage(_Model):
    """One stage: a name, a budget, and what differs from the curriculum."""

    name: StageName
    """Unique in the curriculum, also where upper and lower case are the same."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps of this stage alone. Either this or `until_step`."""
    until_step: int | None = Field(default=None, ge=1)
    """Global optimizer step at which this stage ends, counted from the start of the curriculum."""
    args: Args = Field(default_factory=dict)
    """Arguments of the script in this stage, over those of the curriculum; null takes one away."""
    env: dict[str, EnvText] = Field(default_factory=dict)
    """Environment variables of this stage, over those of the curriculum."""
    script: PathText | None = None
    """Training script of this stage: a path or `module:NAME`."""
    python: PathText | None = None
    """Interpreter of this stage."""
    launcher: Launcher | None = None
    """Processes of this stage; what it leaves out is as in the curriculum."""
    handover: HandoverSpec | None = None
    """What this stage takes over from the one before; what it leaves out is as in the curriculum."""
    data: Parts | None = None
    """What the stage trains on: a mixture, an expression such as `a + b*3`, or a list of parts."""
    trainable: Patterns | None = None
    """Patterns of the parameters that this stage trains, instead of the curriculum's; null leaves it to the script."""
    evaluate: Evaluate | None = None
    """What runs after this stage, instead of the curriculum's; null: nothing."""
    retries: Retries | None = None
    """How this stage is launched again by itself, instead of the curriculum's."""
    hang: Hang | None = None
    """When this stage counts as hung, instead of the curriculum's; null: never."""
    time_limit: Seconds | None = None
    """Seconds of one launch of this stage, instead of the curriculum's; null: no limit."""
    on_oom: list[Args] | None = None
    """What this stage changes when memory runs out, instead of the curriculum's; null: nothing."""


class Curriculum(_Model):
    """Shared settings and an ordered list of stages."""

    name: Text
    """For people: in tables and reports."""
    model_name_or_path: PathText
    """What the first stage starts from: a directory or a model id of the Hugging Face hub."""
    output_dir: PathText
    """The run directory: plan, journal, tasks and results, and by default the stage directories."""
    stage_dir: PathText | None = None
    """Template of a stage's directory, with {index} (from 1), {name} and {output_dir}."""
    script: PathText = "module:stepladder.trainer"
    """Training script: a path, or `module:NAME` for `-m NAME`."""
    python: PathText | None = None
    """Interpreter that trains; left out, the one that runs Stepladder."""
    launcher: Launcher = Field(default_factory=Launcher)
    """Processes of every stage."""
    env: dict[str, EnvText] = Field(default_factory=dict)
    """Environment variables of every stage."""
    args: Args = Field(default_factory=dict)
    """Arguments of the script, with the names of Hugging Face's TrainingArguments and the script's own."""
    schedule: Literal["run", "stage", "script"] = "run"
    """Whose learning-rate curve holds: one of the whole run, one a stage, or the script's own."""
    handover: HandoverSpec = Field(default_factory=HandoverSpec)
    """What every boundary carries besides the weights."""
    trainable: Patterns | None = None
    """Patterns over parameter names: what every stage trains; left out, the script decides."""
    data: DataSpec | None = None
    """Datasets and mixtures, or the path of a YAML file that holds them."""
    hook: bool = True
    """false: the worker only observes and changes nothing in the Trainer."""
    prepare: list[Prepare] = Field(default_factory=list)
    """Commands before the first stage, in order."""
    evaluate: Evaluate | None = None
    """What runs after each stage: the built-in evaluation, or a command."""
    retries: Retries = Field(default_factory=Retries)
    """How often, and after which pause, a stage is launched again by itself."""
    hang: Hang | None = Field(default_factory=Hang)
    """When a stage counts as hung: it is stopped, the stacks of its processes in the log; null: never."""
    time_limit: Seconds | None = None
    """Seconds of one launch of a stage: then it writes a checkpoint and the run ends, as after SIGTERM."""
    on_oom: list[Args] | None = None
    """Arguments that a stage changes when memory runs out, one rung after the other; the samples of a step stay."""
    stages: list[Stage] = Field(min_length=1)
    """In the order in which they train."""


#: The training script of a curriculum that names none.
BUILT_IN: str = Curriculum.model_fields["script"].default
