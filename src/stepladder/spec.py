"""What a person writes: the curriculum file, typed and frozen. See docs/curriculum.md.

The models hold shapes and ranges. What a curriculum must satisfy beyond them is in `checks.py` and `check_args.py`.
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue
from pydantic_core import PydanticCustomError

_STAGE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_NAME_RULE = "1 to 64 letters, digits, `.`, `_` or `-`, not starting with `.`"


def _stage_name(text: str) -> str:
    if not _STAGE_NAME.fullmatch(text):
        raise PydanticCustomError("expected", _NAME_RULE)
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


class Prepare(_Model):
    """A command that runs once, before the first stage, while `creates` does not exist."""

    run: list[Text] = Field(min_length=1)
    """Command and arguments, no shell. `{python}` is the interpreter that runs Stepladder."""
    creates: PathText
    """Path of the file or directory that the command makes."""


class Evaluate(_Model):
    """A command that runs after each stage; its last line on stdout that is a JSON object is recorded."""

    run: list[Text] = Field(min_length=1)
    """Command and arguments, no shell; with {python} {model} {stage_dir} {checkpoint} {name} {index}."""


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
    trainable: Patterns | None = None
    """Patterns of the parameters that this stage trains, instead of the curriculum's; null leaves it to the script."""


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
    hook: bool = True
    """false: the worker only observes and changes nothing in the Trainer."""
    prepare: list[Prepare] = Field(default_factory=list)
    """Commands before the first stage, in order."""
    evaluate: Evaluate | None = None
    """Command after each stage."""
    stages: list[Stage] = Field(min_length=1)
    """In the order in which they train."""
