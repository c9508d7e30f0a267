"""What a plan needs of this machine: interpreters, scripts, models, configurations, data, checkpoints.

Looks at files and asks interpreters for versions; imports and runs nothing of the training. All findings at once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepladder import hf_args, interpreters
from stepladder.checks import contains
from stepladder.errors import PlanError
from stepladder.interpreters import Interpreter
from stepladder.parse import Loaded
from stepladder.plan import Plan, PlannedStage
from stepladder.resolve import make_plan, module_of
from stepladder.yaml_source import DataPath, Finding

_DATA_SUFFIXES = (".json", ".jsonl", ".csv", ".parquet", ".arrow", ".txt", ".yaml")
#: What holds an optimizer's state: single process and DDP, FSDP, DeepSpeed.
_OPTIMIZER_STATE = ("optimizer.pt", "optimizer.bin", "optimizer_0", "global_step*")


def checked_plan(loaded: Loaded, look_at_files: bool = True) -> Plan:
    """The plan of a curriculum; raises PlanError with every missing or unfit thing it names.

    With `look_at_files` False it plans for another machine: nothing is looked for, versions are not known.
    """
    if not look_at_files:
        return make_plan(loaded.curriculum)
    answers = interpreters.ask(loaded.curriculum)
    versions = {name: answer.versions.get("transformers") for name, answer in answers.items()}
    plan = make_plan(loaded.curriculum, versions)
    problems = loaded.document.problems(_unique(_Preflight(loaded, plan, answers).findings()))
    if problems:
        raise PlanError(problems)
    return plan


def hub_models(plan: Plan) -> list[str]:
    """Models that are taken for ids of the Hugging Face hub, which nobody looked for."""
    model = plan.stages[0].model
    return [] if _is_local(model) or Path(model).exists() else [model]


def _unique(findings: Iterator[Finding]) -> list[Finding]:
    return list(dict.fromkeys(findings))


@dataclass(frozen=True)
class _Preflight:
    loaded: Loaded
    plan: Plan
    answers: dict[str, Interpreter]

    def findings(self) -> Iterator[Finding]:
        yield from self._model()
        yield from self._directories()
        for stage in self.plan.stages:
            yield from self._interpreter(stage)
            yield from self._script(stage)
            yield from self._json_configs(stage)
            yield from self._data(stage)
            yield from self._checkpoint(stage)

    def _model(self) -> Iterator[Finding]:
        model = self.plan.stages[0].model
        if self._prepared(model) or not (_is_local(model) or Path(model).exists()):
            return
        here: DataPath = ("model_name_or_path",)
        if not Path(model).is_dir():
            hint = "a relative path starts at the working directory; --no-files plans for a machine that has the files"
            yield Finding(here, f"no directory {model}, expected a model", hint)
        elif not (Path(model) / "config.json").is_file():
            hint = "a model's directory has a config.json beside its weights"
            yield Finding(here, f"{model} has no config.json, expected a model", hint)

    def _directories(self) -> Iterator[Finding]:
        """Through links two names can be one directory; the names themselves were compared by `checks.py`."""
        run = os.path.realpath(self.plan.output_dir)
        here: DataPath = ("stage_dir",) if self.loaded.curriculum.stage_dir else ("output_dir",)
        seen: dict[str, str] = {}
        for stage in self.plan.stages:
            folder = os.path.realpath(stage.output_dir)
            if folder in seen:
                text = f"stages `{seen[folder]}` and `{stage.name}` both write {folder}, expected one directory each"
                yield Finding(here, text, "one of the directories is a link to the other")
            elif contains(folder, run):
                text = f"stage `{stage.name}` writes {folder}, which is or holds the run directory, expected its own"
                yield Finding(here, text, "the directory of a stage is a link")
            seen.setdefault(folder, stage.name)

    def _interpreter(self, stage: PlannedStage) -> Iterator[Finding]:
        answer, here = self.answers[stage.name], self._where(stage, "python")
        if answer.trouble is not None:
            text = f"interpreter {answer.python}: {answer.trouble}, expected a Python with torch and transformers"
            yield Finding(here, text, "give the path of the environment's `bin/python`")
            return
        missing = [package for package in ("torch", "transformers") if not answer.versions.get(package)]
        if missing:
            text = f"interpreter {answer.python} has no {' and no '.join(missing)}, expected both"
            yield Finding(here, text, f"install them there: {answer.python} -m pip install {' '.join(missing)}")

    def _script(self, stage: PlannedStage) -> Iterator[Finding]:
        trouble = self.answers[stage.name].scripts.get(stage.script)
        if trouble is None or (module_of(stage.script) is None and self._prepared(stage.script)):
            return
        place, reason = trouble
        expected = "expected a training script" if place == stage.script else "expected Python"
        hint = "a relative path starts at the working directory" if module_of(stage.script) is None else None
        yield Finding(self._where(stage, "script"), f"script {place}: {reason}, {expected}", hint)

    def _json_configs(self, stage: PlannedStage) -> Iterator[Finding]:
        for name in hf_args.JSON_ARGS:
            value = stage.args.get(name)
            if isinstance(value, str) and not self._prepared(value):
                trouble = _json_trouble(value)
                if trouble:
                    yield Finding(self._where(stage, "args", name), f"`{name}`: {trouble}, expected a JSON object")

    def _data(self, stage: PlannedStage) -> Iterator[Finding]:
        for name in hf_args.DATA_ARGS:
            value = stage.args.get(name)
            for path in value if isinstance(value, list) else [value]:
                if isinstance(path, str) and _is_data_path(path) and not self._exists(path):
                    text = f"`{name}`: nothing at {path}, expected data"
                    hint = "a relative path starts at the working directory; `prepare` can make what is missing"
                    yield Finding(self._where(stage, "args", name), text, hint)

    def _checkpoint(self, stage: PlannedStage) -> Iterator[Finding]:
        if stage.resume_from is None or stage.handover.optimizer != "keep":
            return
        folder = Path(stage.resume_from)
        if folder.is_dir() and not any(found for name in _OPTIMIZER_STATE for found in folder.glob(name)):
            text = f"stage `{stage.name}` starts from {folder}, which has no optimizer state, expected optimizer.pt"
            hint = "train the stage before it again with complete checkpoints, or say `handover: {optimizer: reset}`"
            yield Finding(("stages", stage.index - 1), text, hint)

    def _where(self, stage: PlannedStage, *keys: str) -> DataPath:
        """Where a setting is written: in the stage, else in the curriculum."""
        own: DataPath = ("stages", stage.index - 1, *keys)
        return own if own in self.loaded.document.values or own in self.loaded.document.overridden else keys

    def _prepared(self, path: str) -> bool:
        """Whether a `prepare` command makes this path, something in it, or what it lies in."""
        path = os.path.normpath(path)
        made = [os.path.normpath(command.creates) for command in self.plan.prepare]
        return any(contains(folder, path) or contains(path, folder) for folder in made)

    def _exists(self, path: str) -> bool:
        if self._prepared(path) or Path(path).exists():
            return True
        return "*" in path and any(Path(path).parent.glob(Path(path).name))


def _is_local(text: str) -> bool:
    """`org/name` may be an id of the hub; more slashes, or a start that no id has, make a path."""
    return text.startswith(("/", ".", "~")) or text.count("/") > 1


def _is_data_path(text: str) -> bool:
    return "://" not in text and (_is_local(text) or text.endswith(_DATA_SUFFIXES))


def _json_trouble(value: str) -> str | None:
    """Why `value`, JSON itself or the path of a JSON file, gives no JSON object; None when it does."""
    place, text = "the JSON given", value
    if not value.lstrip().startswith("{"):
        place = value
        try:
            text = Path(value).read_text("utf-8")
        except FileNotFoundError:
            return f"no file {value}"
        except (OSError, UnicodeDecodeError) as error:
            return f"{value} cannot be read ({error})"
    try:
        data: Any = json.loads(text)
    except json.JSONDecodeError as error:
        return f"{place}:{error.lineno}:{error.colno}: {error.msg}"
    return None if isinstance(data, dict) else f"{place} holds no object"
