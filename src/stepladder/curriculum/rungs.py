"""What a rung of `on_oom` makes of a stage's arguments, and which arguments it may change. See docs/oom.md.

A rung may change what memory is needed for, never what is learned. Names are those of `transformers.TrainingArguments`
(5.23; 4.46 where they differ).
"""

# Long lists of words are easier to read and to compare as text.
# ruff: noqa: SIM905

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from stepladder.curriculum import hf_args
from stepladder.curriculum.hf_names import NAMES

#: The arguments of transformers that a rung may change: memory depends on them, and which samples make a step does not.
MEMORY = frozenset(
    """
    activation_checkpointing activation_checkpointing_kwargs batch_eval_metrics dataloader_num_workers
    dataloader_persistent_workers dataloader_pin_memory dataloader_prefetch_factor ddp_bucket_cap_mb deepspeed
    enable_jit_checkpoint eval_accumulation_steps fsdp_config gradient_accumulation_steps gradient_checkpointing
    gradient_checkpointing_kwargs liger_kernel_config per_device_eval_batch_size per_device_train_batch_size
    torch_empty_cache_steps use_cache use_liger_kernel
    """.split()
)

#: Arguments of scripts that decide which samples there are, or their order.
DECIDES_SAMPLES = frozenset((*hf_args.DATA_ARGS, "use_depth", "length_window"))

#: Numbers of which more need more memory.
COSTLY = frozenset(
    """
    dataloader_num_workers dataloader_prefetch_factor max_length max_tiles model_max_length
    per_device_eval_batch_size per_device_train_batch_size
    """.split()
)

#: What holds where nothing is stated, of the arguments that a rung may change.
_DEFAULTS = {
    "per_device_train_batch_size": hf_args.DEFAULT_BATCH_SIZE,
    "per_device_eval_batch_size": hf_args.DEFAULT_BATCH_SIZE,
    "gradient_accumulation_steps": hf_args.DEFAULT_ACCUMULATION,
    "dataloader_num_workers": 0,
}

_TIMES = re.compile(r"x(\d+)")


def is_allowed(name: str) -> bool:
    """Whether a rung may change an argument; a script's own are free but for those that name its samples."""
    return name in MEMORY or (name not in NAMES and name not in DECIDES_SAMPLES)


def multiplies(written: Any) -> bool:
    """Whether a value of a rung says `x2` rather than a value."""
    return isinstance(written, str) and _TIMES.fullmatch(written) is not None


def held(args: Mapping[str, Any], name: str) -> Any:
    """The value that holds: as stated, else transformers' default where a rung needs it, else None."""
    return args.get(name, _DEFAULTS.get(name))


def value(args: Mapping[str, Any], name: str, written: Any) -> Any:
    """An argument with one more rung taken: `x2` doubles the whole number that holds, anything else replaces it.

    Raises ValueError saying what was found and expected where there is nothing to multiply.
    """
    times = _TIMES.fullmatch(written) if isinstance(written, str) else None
    if times is None:
        return written
    now = hf_args.whole(held(args, name))
    if now is None:
        found = "which is not stated" if name not in args else f"which is {args[name]!r}"
        raise ValueError(f"`{written}` of {name}, {found}, expected a whole number to multiply")
    if int(times[1]) < 2:
        raise ValueError(f"`{written}`, expected `x2` or more")
    return now * int(times[1])


def after(args: Mapping[str, Any], rung: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's arguments with one more rung taken; null takes an argument away. Raises ValueError as `value` does."""
    return hf_args.merged(args, {name: value(args, name, written) for name, written in rung.items()})


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of the arguments in which two of a stage's ways to be launched differ, defaults filled in."""
    return [name for name in {**before, **now} if held(before, name) != held(now, name)]


def ladder(args: Mapping[str, Any], on_oom: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A stage's arguments on each rung, from the top down; what changes nothing of this stage is no rung of it."""
    found: list[dict[str, Any]] = []
    now = dict(args)
    for rung in on_oom:
        lower = after(now, rung)
        if changed(now, lower):
            found.append(lower)
        now = lower
    return found
