"""What a plan needs of this machine: interpreters, scripts, models, configurations, data, checkpoints.

Looks at files and asks interpreters for versions; imports and runs nothing of the training. All findings at once.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepladder.curriculum import hf_args
from stepladder.curriculum.parse import Loaded
from stepladder.curriculum.spec import Curriculum, Evaluate, Stage
from stepladder.curriculum.yaml_source import DataPath, Finding, suggestion
from stepladder.errors import CurriculumError, PlanError
from stepladder.paths import contains
from stepladder.planning import interpreters
from stepladder.planning.interpreters import Interpreter
from stepladder.planning.plan import Plan, PlannedStage
from stepladder.planning.resolve import evaluated_mixture, make_plan, script_of, setting
from stepladder.planning.stage_command import module_of
from stepladder.preflight import checkpoint_fit, version_fit

_DATA_SUFFIXES = (".json", ".jsonl", ".csv", ".parquet", ".arrow", ".txt", ".yaml")
#: Where people keep their own models; `FOLDER/name` could be an id of the hub otherwise.
_FOLDERS = ("runs", "models", "model", "checkpoints", "checkpoint", "ckpt", "ckpts", "output", "outputs", "weights")


def checked_plan(loaded: Loaded, look_at_files: bool = True, fresh: bool = False, only: str | None = None) -> Plan:
    """The plan of a curriculum.

    Raises CurriculumError with everything that is wrong with the curriculum and what it names, or PlanError with
    every missing or unfit thing that a sound one names. With `look_at_files` False it plans for another machine:
    nothing is looked for, versions are not known, and the interpreter is whatever `python` is there. Checkpoints that
    `fresh` is going to set aside, all of them or those from the stage `only` on, are not looked at.
    """
    if not look_at_files:
        return make_plan(loaded.curriculum, interpreter="python")
    if loaded.understood is None:
        raise CurriculumError(loaded.problems())
    answers = interpreters.ask(loaded.understood)
    look = _Preflight(loaded, loaded.understood, answers)
    if not loaded.sound:
        raise CurriculumError(loaded.problems(look.findings()))
    versions = {stage.name: said.versions.get("transformers") for stage, said in look.stages()}
    plan = make_plan(loaded.curriculum, versions)
    kept = _kept(plan, fresh, only)
    checkpoints = [*checkpoint_fit.findings(plan, kept), *version_fit.findings(plan, kept)]
    problems = loaded.problems([*look.findings(), *_Directories(loaded, plan).findings(), *checkpoints])
    if problems:
        raise PlanError(problems)
    return plan


def _kept(plan: Plan, fresh: bool, only: str | None) -> list[PlannedStage]:
    """The first stages, whose directories stay where they are."""
    if fresh:
        return [] if only is None else list(itertools.takewhile(lambda stage: stage.name != only, plan.stages))
    return list(plan.stages)


def hub_models(plan: Plan) -> list[str]:
    """Models that are taken for ids of the Hugging Face hub, which nobody looked for."""
    model = plan.stages[0].model
    return [] if _is_local_model(model) else [model]


@dataclass(frozen=True)
class _Preflight:
    """What can be looked at without a plan, so also where the curriculum has mistakes elsewhere."""

    loaded: Loaded
    curriculum: Curriculum
    answers: list[Interpreter]

    def stages(self) -> Iterator[tuple[Stage, Interpreter]]:
        return zip(self.curriculum.stages, self.answers, strict=True)

    def findings(self) -> Iterator[Finding]:
        yield from self._model()
        for index, (stage, answer) in enumerate(self.stages()):
            args = hf_args.merged(self.curriculum.args, stage.args)
            yield from self._interpreter(index, answer)
            yield from self._script(index, script_of(self.curriculum, stage), answer)
            yield from self._json_configs(index, stage, args)
            yield from self._data(index, args)
            yield from self._evaluation(index)
        yield from self._datasets()

    def _model(self) -> Iterator[Finding]:
        model = self.curriculum.model_name_or_path
        if "$" in model or self._prepared(model) or not _is_local_model(model):
            return
        here: DataPath = ("model_name_or_path",)
        if not Path(model).is_dir():
            hint = self._hint(model, "--no-files plans for a machine that has the files")
            yield Finding(here, f"no directory {model}, expected a model", hint)
        elif not (Path(model) / "config.json").is_file():
            hint = "a model's directory has a config.json beside its weights"
            yield Finding(here, f"{model} has no config.json, expected a model", hint)
        for trouble in checkpoint_fit.missing_weights(Path(model)):
            yield Finding(here, f"{model}: {trouble}, expected whole weights", "copy or download the model again")

    def _interpreter(self, index: int, answer: Interpreter) -> Iterator[Finding]:
        here = self._where(index, "python")
        if answer.trouble is not None:
            if "$" not in answer.python:
                text = f"interpreter {answer.python}: {answer.trouble}, expected a Python with torch and transformers"
                yield Finding(here, text, self._hint(answer.python, "give the path of the environment's `bin/python`"))
            return
        missing = [package for package in ("torch", "transformers") if not answer.versions.get(package)]
        if missing:
            text = f"interpreter {answer.python} has no {' and no '.join(missing)}, expected both"
            yield Finding(here, text, f"install them there: {answer.python} -m pip install {' '.join(missing)}")

    def _script(self, index: int, script: str, answer: Interpreter) -> Iterator[Finding]:
        trouble, module = answer.scripts.get(script), module_of(script)
        if trouble is None or "$" in script or (module is None and self._prepared(script)):
            return
        place, reason = trouble
        if place != script:
            hint = f"{answer.python} compiles it before anything starts: correct it, or give the `python` it is for"
            yield Finding(self._where(index, "script"), f"script {place}: {reason}, expected Python", hint)
            return
        hint = self._hint(script) if module is None else f"install it there: {answer.python} -m {module} must find it"
        yield Finding(self._where(index, "script"), f"script {script}: {reason}, expected a training script", hint)

    def _json_configs(self, index: int, stage: Stage, args: Mapping[str, Any]) -> Iterator[Finding]:
        """Of the stage's arguments, and of every rung of its ladder."""
        found = [(self._where(index, "args", name), args.get(name)) for name in hf_args.JSON_ARGS]
        for number, rung in enumerate(setting("on_oom", self.curriculum, stage) or ()):
            here: DataPath = (*self._where(index, "on_oom"), number)
            found += [((*here, name), rung.get(name)) for name in hf_args.JSON_ARGS]
        for place, value in found:
            trouble = _json_trouble(value) if isinstance(value, str) and not self._prepared(value) else None
            if trouble:
                hint = self._hint(str(value), "the file, or JSON itself, holds one object: {...}")
                yield Finding(place, f"`{place[-1]}`: {trouble}, expected a JSON object", hint)

    def _data(self, index: int, args: Mapping[str, Any]) -> Iterator[Finding]:
        for name in hf_args.DATA_ARGS:
            value = args.get(name)
            for path in value if isinstance(value, list) else [value]:
                if isinstance(path, str) and _is_data_path(path) and not self._exists(path):
                    text = f"`{name}`: nothing at {path}, expected data"
                    hint = self._hint(path, "`prepare` can make what is missing")
                    yield Finding(self._where(index, "args", name), text, hint)

    def _evaluation(self, index: int) -> Iterator[Finding]:
        """A file that is missing after the stage has trained would be noticed too late."""
        stage = self.curriculum.stages[index]
        spec: Evaluate | None = setting("evaluate", self.curriculum, stage)
        if spec is None or spec.data is None or evaluated_mixture(self.curriculum, spec) or self._exists(spec.data):
            return
        data = self.curriculum.data
        names = [] if data is None else [*data.datasets, *data.mixtures]
        hint = self._hint(spec.data, "`prepare` can make what is missing")
        text = f"`data`: nothing at {spec.data}, expected held-out samples{suggestion(spec.data, names)}"
        yield Finding(self._where(index, "evaluate", "data"), text, hint)

    def _datasets(self) -> Iterator[Finding]:
        for name, dataset in (self.curriculum.data.datasets if self.curriculum.data else {}).items():
            here: DataPath = ("data", "datasets", name)
            for key, path in (
                *(("path", dataset.path), ("scores", dataset.scores), ("image_folder", dataset.image_folder)),
            ):
                if path is not None and not self._exists(path):
                    hint = self._hint(path, "`prepare` can make what is missing")
                    yield Finding((*here, key), f"`{key}`: nothing at {path}, expected data", hint)

    def _hint(self, path: str, otherwise: str | None = None) -> str:
        """What to do about a path with nothing there: it may lie beside the curriculum."""
        folder = Path(self.loaded.document.name).parent
        start = "a relative path starts at the working directory"
        if not Path(path).exists() and folder != Path() and (folder / path).exists():
            return f"{start}, and {folder / path} is there: cd {folder}"
        return f"{start}; {otherwise}" if otherwise else start

    def _where(self, index: int, *keys: str) -> DataPath:
        """Where a setting of the stage with that index (from 0) is written: in the stage, else in the curriculum."""
        own: DataPath = ("stages", index, *keys)
        return own if own in self.loaded.document.values or own in self.loaded.document.overridden else keys

    def _prepared(self, path: str) -> bool:
        """Whether a `prepare` command makes this path, something in it, or what it lies in."""
        path = os.path.normpath(path)
        made = [os.path.normpath(command.creates) for command in self.curriculum.prepare]
        return any(contains(folder, path) or contains(path, folder) for folder in made)

    def _exists(self, path: str) -> bool:
        place = _at_home(path)
        if self._prepared(path) or place.exists():
            return True
        return "*" in path and any(place.parent.glob(place.name))


@dataclass(frozen=True)
class _Directories:
    """What the stages of a plan write, and what they start from."""

    loaded: Loaded
    plan: Plan

    def findings(self) -> Iterator[Finding]:
        run = os.path.realpath(self.plan.output_dir)
        here: DataPath = ("stage_dir",) if self.loaded.curriculum.stage_dir else ("output_dir",)
        yield from _not_a_directory(("output_dir",), self.plan.output_dir)
        seen: dict[str, str] = {}
        for stage in self.plan.stages:
            # Through links two names can be one directory; the names themselves were compared by `checks/structure.py`.
            folder = os.path.realpath(stage.output_dir)
            if folder in seen:
                text = f"stages `{seen[folder]}` and `{stage.name}` both write {folder}, expected one directory each"
                yield Finding(here, text, "one of the directories is a link to the other")
            elif contains(folder, run):
                text = f"stage `{stage.name}` writes {folder}, which is or holds the run directory, expected its own"
                yield Finding(here, text, "the directory of a stage is a link")
            else:
                yield from _not_a_directory(here, stage.output_dir)
            seen.setdefault(folder, stage.name)


def _not_a_directory(here: DataPath, folder: str) -> Iterator[Finding]:
    """The run directory or a stage's is made where it is missing, but never where a file is."""
    there = next((place for place in (Path(folder), *Path(folder).parents) if place.exists()), Path())
    if not there.is_dir():
        yield Finding(here, f"{there} is a file, expected a directory", "move the file away, or name another directory")


def _at_home(path: str) -> Path:
    """Where a script finds a path that it is given: a leading `~` is left to it."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises for a user who is not known


def _is_local(text: str) -> bool:
    """`org/name` may be an id of the hub; more slashes, or a start that no id has, make a path."""
    return text.startswith(("/", ".", "~")) or text.count("/") > 1


def _is_local_model(model: str) -> bool:
    """Whether a model is looked for on this machine: what begins with a folder that is here, or that is no one's id."""
    first, slash, _ = model.partition("/")
    return _is_local(model) or Path(model).exists() or (bool(slash) and (first in _FOLDERS or Path(first).is_dir()))


def _is_data_path(text: str) -> bool:
    return "://" not in text and (_is_local(text) or text.endswith(_DATA_SUFFIXES))


def _json_trouble(value: str) -> str | None:
    """Why `value`, JSON itself or the path of a JSON file, gives no JSON object; None when it does."""
    place, text = "the JSON given", value
    if not value.lstrip().startswith("{"):
        place = value
        try:
            text = _at_home(value).read_text("utf-8")
        except FileNotFoundError:
            return f"no file {value}"
        except (OSError, UnicodeDecodeError) as error:
            return f"{value} cannot be read ({error})"
    try:
        data: Any = json.loads(text)
    except json.JSONDecodeError as error:
        return f"{place}:{error.lineno}:{error.colno}: {error.msg}"
    return None if isinstance(data, dict) else f"{place} holds no object"
