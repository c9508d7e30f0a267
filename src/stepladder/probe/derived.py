"""The curriculum of a probe: two tiny stages on the arguments of one real stage, in a scratch directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepladder.curriculum import hf_args
from stepladder.curriculum.spec import Curriculum, HandoverSpec, Stage

#: Optimizer steps of the two stages. One step could not show that a schedule or an order goes on.
FIRST_STEPS, SECOND_STEPS = 2, 3
FIRST, SECOND = "first", "second"

#: What would write or report outside the scratch directory.
_QUIET = {"report_to": "none", "push_to_hub": False, "logging_dir": None}
_QUIET_ENV = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "WANDB_MODE": "disabled",
    "COMET_MODE": "DISABLED",
    "DISABLE_MLFLOW_INTEGRATION": "TRUE",
}

#: Where a DeepSpeed configuration may fix a number of its own, which transformers then requires of the arguments.
_IN_DEEPSPEED = {
    ("train_micro_batch_size_per_gpu",): "per_device_train_batch_size",
    ("gradient_accumulation_steps",): "gradient_accumulation_steps",
    ("optimizer", "params", "lr"): "learning_rate",
    ("scheduler", "params", "warmup_max_lr"): "learning_rate",
    ("optimizer", "params", "weight_decay"): "weight_decay",
}


@dataclass(frozen=True)
class Change:
    """An argument that the second stage has otherwise than the first, so that it shows whether it is honoured."""

    name: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.name} {self.before} -> {self.now}"


def changes(curriculum: Curriculum, stage: Stage) -> tuple[Change, ...]:
    """What the second stage changes: of the learning rate, weight decay, batch size and accumulation those that are
    stated, since a script need not know the others. A step takes no more samples than before, where that can be."""
    args = hf_args.merged(curriculum.args, stage.args)
    fixed = _fixed_by_deepspeed(args.get("deepspeed"))
    stated = {
        name: hf_args.understood(name, args[name])
        for name in ("learning_rate", "weight_decay", "per_device_train_batch_size", "gradient_accumulation_steps")
        if name in args and name not in fixed
    }
    found = []
    halved = False
    for name, value in stated.items():
        if name == "gradient_accumulation_steps":
            now = value // 2 if value > 1 and not halved else value * 2
        elif name == "per_device_train_batch_size":
            now, halved = max(1, value // 2), value > 1
        else:
            now = value / 2 if value else 0.01
        if now != value and not (name == "learning_rate" and curriculum.schedule == "script"):
            found.append(Change(name, value, now))
    return tuple(found)


def derive(curriculum: Curriculum, stage: Stage, folder: Path, hook: bool) -> Curriculum:
    """The curriculum of one of a probe's two chains, in `folder`.

    Interpreter, script, environment, launcher and arguments are the stage's; the model is the curriculum's. Every
    boundary rule is asked for (`handover` is the default), and the second stage has a learning rate of its own.
    """
    args = hf_args.merged(curriculum.args, stage.args)
    args = hf_args.merged(args, {name: value for name, value in _QUIET.items() if name in args})
    own: dict[str, Any] = {"until_step": None, "handover": None, "evaluate": None, "args": {}}
    first = stage.model_copy(update=own | {"name": FIRST, "steps": FIRST_STEPS})
    changed = {change.name: change.now for change in changes(curriculum, stage)}
    second = first.model_copy(update={"name": SECOND, "steps": SECOND_STEPS, "args": changed})
    return curriculum.model_copy(
        update={
            "name": f"{curriculum.name}: probe",
            "output_dir": str(folder),
            "stage_dir": None,
            "args": args,
            "env": curriculum.env | _QUIET_ENV,
            "schedule": "script" if curriculum.schedule == "script" else "stage",
            "handover": HandoverSpec(),
            "hook": hook,
            "prepare": [],
            "evaluate": None,
            "stages": [first, second],
        }
    )


def write(curriculum: Curriculum, path: Path) -> None:
    """Write a curriculum as a file that `parse.load` reads; JSON is YAML."""
    path.write_text(json.dumps(curriculum.model_dump(mode="json", exclude_defaults=True), indent=1) + "\n", "utf-8")


def _fixed_by_deepspeed(config: Any) -> set[str]:
    """Arguments whose value a DeepSpeed configuration (a mapping, its JSON or the path of its file) states itself."""
    if isinstance(config, str):
        text = config if config.lstrip().startswith("{") else Path(config).expanduser().read_text("utf-8")
        config = json.loads(text)
    fixed = {name for path, name in _IN_DEEPSPEED.items() if _number_at(config, path)}
    if _number_at(config, ("train_batch_size",)):
        fixed |= {"per_device_train_batch_size", "gradient_accumulation_steps"}
    return fixed


def _number_at(config: Any, path: tuple[str, ...]) -> bool:
    for key in path:
        config = config.get(key) if isinstance(config, Mapping) else None
    return isinstance(config, (int, float))
