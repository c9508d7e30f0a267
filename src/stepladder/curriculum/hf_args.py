"""Hugging Face's arguments: what Stepladder understands of them, their values, and how they differ between versions.

Names and defaults are those of `transformers.TrainingArguments` (5.23; 4.46 where they differ). Reads no file and
imports nothing of transformers.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from stepladder.curriculum.hf_names import CHOICES, OPTIMIZERS, SWITCHES
from stepladder_worker.schedule import Curve, warmup_steps

#: Kinds of the arguments that Stepladder itself has to understand.
_FRACTIONS = {
    "learning_rate",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "label_smoothing_factor",
    "logging_steps",
    "save_steps",
    "eval_steps",
    "warmup_steps",
    "warmup_ratio",
}
_WHOLES = {
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "save_total_limit",
    "seed",
    "data_seed",
    "torch_empty_cache_steps",
    "dataloader_num_workers",
}
_SWITCHES = {"dataloader_drop_last", "logging_first_step", "load_best_model_at_end"}
_WORDS = {"optim", "logging_strategy", "save_strategy", "eval_strategy", "evaluation_strategy", "metric_for_best_model"}
UNDERSTOOD = _FRACTIONS | _WHOLES | _SWITCHES | _WORDS

_MINIMUM = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "torch_empty_cache_steps": 1,
    **dict.fromkeys(
        ("learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "seed", "data_seed"), 0
    ),
    **dict.fromkeys(("warmup_ratio", "warmup_steps", "logging_steps", "save_steps", "eval_steps"), 0),
    **dict.fromkeys(("label_smoothing_factor", "dataloader_num_workers"), 0),
}
_BELOW_1 = ("adam_beta1", "adam_beta2", "warmup_ratio")
#: How like a known optimizer an unknown one must be to be refused: versions to come may know more.
_OPTIMIZER_LIKENESS = 0.8

DEFAULT_SCHEDULER = "linear"
DEFAULT_BATCH_SIZE = 8
DEFAULT_ACCUMULATION = 1

#: Arguments that bring in an engine which shards the model or the optimizer.
ENGINES = ("deepspeed", "fsdp")

#: Names under which scripts take their training data.
DATA_ARGS = ("data_mixture", "data", "data_path", "dataset_name", "dataset_config", "dataset_train_split", "train_file")

#: Arguments that may hold the path of a JSON file, or the JSON itself.
JSON_ARGS = ("deepspeed", "fsdp_config")

#: What Stepladder decides itself, and how a person says it instead.
OWNED = {
    "max_steps": "max_steps is cumulative: use `steps` (relative) or `until_step` (cumulative) of the stage",
    "num_train_epochs": "a stage ends at a step: use `steps` (relative) or `until_step` (cumulative) of the stage",
    "output_dir": "use `output_dir` or `stage_dir` of the curriculum",
    "model_name_or_path": "use `model_name_or_path` of the curriculum; a later stage starts from the one before",
    "resume_from_checkpoint": "a stage resumes from the one before it; remove this line",
    "ignore_data_skip": "use `handover: {data: fresh}` or `{data: continue}`",
    "save_only_model": "a boundary hands over the optimizer, so checkpoints are complete; remove this line",
    "overwrite_output_dir": "`stepladder run --fresh` starts over; remove this line",
    "hub_token": "arguments can be read by every user of the machine; set HF_TOKEN in the environment",
}

_RATIO_BELOW_1 = (5, 0)
#: (first version with the new name, old name, new name)
_RENAMED = (
    ((4, 41), "evaluation_strategy", "eval_strategy"),
    ((5, 0), "no_cuda", "use_cpu"),
)


#: Arguments that hold a secret. Others end in `_token` or `_key` as well: `eos_token`, `label_key`.
_SECRETS = re.compile(
    r"(.*_)?(password|passwd|secret|secret_key|api_key|access_key|auth_key|private_key)"
    r"|use_auth_token|token|(.*_)?(hub|hf|auth|access|api|bearer|wandb|github)_token"
)


def is_secret(name: str) -> bool:
    """Whether an argument of this name holds a secret, which no command line is the place for."""
    return _SECRETS.fullmatch(name.lower()) is not None


def merged(common: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's arguments: the curriculum's in their order with the stage's in place, new ones last, null dropped."""
    return {name: value for name, value in {**common, **own}.items() if value is not None}


def understood(name: str, value: Any) -> Any:
    """The value of an argument in UNDERSTOOD as transformers would read it from a command line.

    Numbers may be text, as in `learning_rate: "1e-5"`. Raises ValueError saying what was found and expected.
    """
    if name in _FRACTIONS or name in _WHOLES:
        number = _number(value)
        if number is None or (name in _WHOLES and not isinstance(number, int)):
            raise ValueError(f"found {value!r}, expected a {'whole ' if name in _WHOLES else ''}number")
        if number < _MINIMUM.get(name, -math.inf):
            raise ValueError(f"found {value!r}, expected at least {_MINIMUM[name]}")
        if name in _BELOW_1 and number >= 1:
            raise ValueError(f"found {value!r}, expected a number below 1")
        return number
    if name in _SWITCHES:
        return _switch(value)
    if not isinstance(value, str):
        raise ValueError(f"found {value!r}, expected a word")
    return value


def check(name: str, value: Any) -> None:
    """Raise ValueError, with what was found and expected, where `value` is none that the argument can have.

    Arguments of the script's own pass.
    """
    if name in CHOICES and value not in CHOICES[name]:
        raise ValueError(f"found {_found(value)}, expected one of {', '.join(CHOICES[name])}")
    if name in SWITCHES:
        _switch(value)
    elif name in UNDERSTOOD:
        understood(name, value)
    if name == "optim" and value not in OPTIMIZERS:
        close = difflib.get_close_matches(str(value), OPTIMIZERS, n=1, cutoff=_OPTIMIZER_LIKENESS)
        if close:
            raise ValueError(f"unknown optimizer {value!r}, did you mean `{close[0]}`?")


def in_force(args: Mapping[str, Any]) -> dict[str, Any]:
    """The stated arguments that must hold in the Trainer whatever a checkpoint says, by name and with their types.

    Warm-up is not among them: the curve carries it.
    """
    names = (name for name in args if name in UNDERSTOOD and not name.startswith("warmup_"))
    return {name: understood(name, args[name]) for name in names}


def curve(args: Mapping[str, Any], total_steps: int, offset: int = 0) -> Curve:
    """The learning rate that the arguments ask for, over `total_steps` steps from global step `offset`.

    Raises ValueError when `learning_rate` is not stated, or when the type or its arguments give no curve.
    """
    if "learning_rate" not in args:
        raise ValueError("learning_rate is not stated")
    kwargs = args.get("lr_scheduler_kwargs") or {}
    if isinstance(kwargs, str):
        kwargs = json.loads(kwargs)
    if not isinstance(kwargs, Mapping):
        raise ValueError(f"lr_scheduler_kwargs: found {kwargs!r}, expected a mapping")
    result = Curve(
        type=str(args.get("lr_scheduler_type", DEFAULT_SCHEDULER)),
        peak=float(understood("learning_rate", args["learning_rate"])),
        warmup_steps=warmup_steps(
            total_steps,
            understood("warmup_ratio", args.get("warmup_ratio", 0)),
            understood("warmup_steps", args.get("warmup_steps", 0)),
        ),
        total_steps=total_steps,
        offset=offset,
        kwargs=dict(kwargs),
    )
    result.check()
    return result


def engine(args: Mapping[str, Any]) -> str | None:
    """The engine that shards, by the argument that brings it in; None for a single process and for DDP."""
    return next((name for name in ENGINES if args.get(name)), None)


def samples_per_device_step(args: Mapping[str, Any]) -> tuple[int, int]:
    """(samples a device takes at once, micro-batches accumulated into one optimizer step)."""
    batch = understood("per_device_train_batch_size", args.get("per_device_train_batch_size", DEFAULT_BATCH_SIZE))
    steps = args.get("gradient_accumulation_steps", DEFAULT_ACCUMULATION)
    return batch, understood("gradient_accumulation_steps", steps)


def for_version(args: Mapping[str, Any], transformers: str | None) -> dict[str, Any]:
    """The arguments under the names of that version of transformers; unchanged where the version is not known."""
    release = release_of(transformers)
    if release is None:
        return dict(args)
    result = dict(args)
    for since, old, new in _RENAMED:
        if release >= since:
            result = _rename(result, old, new)
    if release < _RENAMED[0][0]:
        result = _rename(result, "eval_strategy", "evaluation_strategy")
    if release >= _RATIO_BELOW_1:
        # `warmup_ratio` is gone; `warmup_steps` below 1 says the same, and won over the ratio when both were given.
        if _number(result.get("warmup_steps", 0)):
            result.pop("warmup_ratio", None)
        elif "warmup_ratio" in result:
            result.pop("warmup_steps", None)
            result = _rename(result, "warmup_ratio", "warmup_steps")
    return result


def release_of(version: str | None) -> tuple[int, int] | None:
    """(major, minor) of a version; None where it is not known."""
    found = re.match(r"(\d+)\.(\d+)", version or "")
    return (int(found[1]), int(found[2])) if found else None


def argv(args: Mapping[str, Any]) -> list[str]:
    """Arguments as HfArgumentParser reads them: `--bf16 True`, lists as several values, mappings as JSON."""
    result: list[str] = []
    for name, value in args.items():
        values = [_text(item) for item in value] if isinstance(value, list) else [_text(value)]
        if len(values) == 1 and values[0].startswith("-") and _number(values[0]) is None:
            result.append(f"--{name}={values[0]}")
        elif values:
            result += [f"--{name}", *values]
    return result


_SWITCH = {"true": True, "yes": True, "t": True, "y": True, "1": True} | {
    "false": False,
    "no": False,
    "f": False,
    "n": False,
    "0": False,
}


def is_on(value: Any) -> bool:
    """Whether a switch is on, as transformers reads it; of what is no switch, whether it is anything at all."""
    return _SWITCH.get(str(value).lower(), bool(value))


def _switch(value: Any) -> bool:
    switch = _SWITCH.get(str(value).lower())
    if switch is None:
        raise ValueError(f"found {value!r}, expected true or false")
    return switch


def _found(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def whole(value: Any) -> int | None:
    """A whole number, also from text; None for anything else."""
    number = _number(value)
    return number if isinstance(number, int) else None


def _number(value: Any) -> int | float | None:
    """A finite number, also from text; None for anything else, booleans included."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    for kind in (int, float) if isinstance(value, str) else (type(value),):
        try:
            number = kind(value)
            return number if math.isfinite(number) else None
        except (ValueError, OverflowError):  # the latter: a whole number that no float can hold
            continue
    return None


def _text(value: Any) -> str:
    if isinstance(value, float):
        # 1e-05 is Python's spelling; people and papers write 1e-5.
        return re.sub(r"e([+-])0+(\d)", r"e\1\2", repr(value)).replace("e+", "e")
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return str(value)


def _rename(args: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """`old` under its new name in its place; a `new` that is stated as well wins."""
    if old not in args:
        return args
    if new in args:
        return {name: value for name, value in args.items() if name != old}
    return {new if name == old else name: value for name, value in args.items()}
