"""The plan: a curriculum resolved to stages that can be launched, as plain frozen records. `resolve.py` makes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from stepladder.data.mixture import Mixture
from stepladder_worker import redaction
from stepladder_worker.contract import Handover
from stepladder_worker.schedule import Curve

VERSION = 3

#: What of a stage may repeat a secret; paths, which are needed as they are, do not.
_REPEATING = ("args", "in_force", "script_argv", "argv", "plain_argv", "evaluate", "rungs", "changes")


def hidden(env: Mapping[str, str]) -> dict[str, str]:
    """An environment as it may be shown."""
    return {name: redaction.HIDDEN if redaction.is_secret(name) else value for name, value in env.items()}


@dataclass(frozen=True)
class Processes:
    """How many processes train a stage: `nproc_per_node` on each of `nnodes` machines."""

    nproc_per_node: int
    nnodes: int


@dataclass(frozen=True)
class Batch:
    """What one optimizer step takes.

    Attributes:
        per_device: samples a process takes at once.
        accumulation: micro-batches accumulated into one optimizer step.
        processes: training processes.
    """

    per_device: int
    accumulation: int
    processes: int

    @property
    def samples(self) -> int:
        """Samples of one optimizer step over all processes."""
        return self.per_device * self.accumulation * self.processes


@dataclass(frozen=True)
class PreparePlan:
    """A command that runs while `creates` does not exist; `{python}` in `run` is not filled in yet."""

    run: tuple[str, ...]
    creates: str


@dataclass(frozen=True)
class EvaluatePlan:
    """A command that runs after a stage; the fields in `run` are not filled in yet.

    Attributes:
        what: for people: the data of the built-in evaluation, or the command.
        run: command and arguments, also of the built-in evaluation.
        mixture: what is selected for it before; None where it reads a file, or finds its data by itself.
    """

    what: str
    run: tuple[str, ...]
    mixture: Mixture | None


@dataclass(frozen=True)
class RetryPlan:
    """When a stage is launched again by itself.

    Attributes:
        limit: launches after the first one in one `run`.
        pause: seconds before the first of them.
    """

    limit: int
    pause: float


@dataclass(frozen=True)
class HangPlan:
    """Seconds without progress after which a stage counts as hung.

    Attributes:
        step: between two optimizer steps, at the least.
        start: before the first step, without a new line in the log.
        save: writing a checkpoint.
        evaluate: between two batches of an evaluation within training.
    """

    step: float
    start: float
    save: float
    evaluate: float


@dataclass(frozen=True)
class Rung:
    """A stage after a number of steps down the ladder of `on_oom`: what of it differs from the stage as planned.

    Attributes:
        changes: what differs from the rung above, one `name old -> new` each, for people.
        args, in_force, batch, script_argv, argv, plain_argv: in the place of the stage's own.
    """

    changes: tuple[str, ...]
    args: dict[str, Any]
    in_force: dict[str, Any]
    batch: Batch
    script_argv: list[str]
    argv: list[str]
    plain_argv: list[str]


@dataclass(frozen=True)
class PlannedStage:
    """One stage, ready to be launched. Paths are as written: relative ones start at the working directory.

    Attributes:
        index: position, from 1.
        name: as in the curriculum.
        start_step, end_step: global optimizer steps.
        lr_start, lr_end: learning rate of the curve at `start_step` and `end_step`; None where it is not known.
            Under `schedule: script` that of transformers' own rule, whose curve ends at `end_step`.
        curve: the planned learning rate; None leaves the script's scheduler alone.
        output_dir: the stage's own directory.
        model: what `--model_name_or_path` says.
        resume_from: the checkpoint the stage before ends with; None for the first stage.
        data_start_step: global step at which the stage's data order has its first sample.
        handover: what the boundary before this stage carries.
        in_force: stated TrainingArguments that must hold in this stage, by name.
        engine: "deepspeed" or "fsdp" where the arguments bring in one, else None.
        trainable: patterns over parameter names; None leaves it to the script.
        mixture: what the stage's `data:` says; None where its script finds its data by itself.
        new_objective: the stage trains another objective than the one before.
        args: arguments of the script, curriculum's and stage's together, for the stage's transformers.
        script: path, or `module:NAME`.
        python: interpreter.
        launcher: processes.
        batch: samples of a step.
        env: environment variables to add, with their true values.
        script_argv: the script's own arguments.
        argv: the command with the worker around the script.
        plain_argv: the command without it.
        evaluate: what runs after the stage, or None.
        retries: when it is launched again by itself.
        hang: when it counts as hung; None: never.
        time_limit: seconds of one launch; None: no limit.
        hook: False only observes.
        transformers: version in the stage's interpreter, None where not known.
        sources: where a resolved value comes from, by name.
        rungs: the stage on every rung of its ladder, from the top down; empty without `on_oom`.
        rung: how many of them this is launched with; 0 as planned.
        changes: what differs from the stage before, for people.
    """

    index: int
    name: str
    start_step: int
    end_step: int
    lr_start: float | None
    lr_end: float | None
    curve: Curve | None
    output_dir: str
    model: str
    resume_from: str | None
    data_start_step: int
    handover: Handover
    in_force: dict[str, Any]
    engine: str | None
    trainable: tuple[str, ...] | None
    mixture: Mixture | None
    new_objective: bool
    args: dict[str, Any]
    script: str
    python: str
    launcher: Processes
    batch: Batch
    env: dict[str, str]
    script_argv: list[str]
    argv: list[str]
    plain_argv: list[str]
    evaluate: EvaluatePlan | None
    retries: RetryPlan
    hang: HangPlan | None
    time_limit: float | None
    hook: bool
    transformers: str | None
    sources: dict[str, str]
    rungs: tuple[Rung, ...]
    rung: int = 0
    changes: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """Optimizer steps of this stage alone."""
        return self.end_step - self.start_step

    @property
    def samples(self) -> int:
        """Samples that the stage trains on, repeats counted."""
        return self.steps * self.batch.samples

    def on_rung(self, rung: int) -> PlannedStage:
        """A stage as planned, as it is launched with its first `rung` rungs taken.

        Raises IndexError where it has not so many, or is on one already.
        """
        if not 0 <= rung <= len(self.rungs) or self.rung:
            raise IndexError(f"stage {self.name} is on rung {self.rung}, asked for {rung} of {len(self.rungs)}")
        if rung == 0:
            return self
        values = {key: value for key, value in vars(self.rungs[rung - 1]).items() if key != "changes"}
        return replace(self, rung=rung, **values)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PlannedStage:
        """Raises KeyError or TypeError when a field is missing or unknown."""
        values = dict(data) | {
            "changes": tuple(data["changes"]),
            "trainable": None if data["trainable"] is None else tuple(data["trainable"]),
            "mixture": None if data["mixture"] is None else Mixture.from_json(data["mixture"]),
            "evaluate": _evaluate_from_json(data["evaluate"]),
            "retries": RetryPlan(**data["retries"]),
            "hang": None if data["hang"] is None else HangPlan(**data["hang"]),
            "curve": None if data["curve"] is None else Curve.from_dict(data["curve"]),
            "handover": Handover(**data["handover"]),
            "launcher": Processes(**data["launcher"]),
            "batch": Batch(**data["batch"]),
            "rungs": tuple(map(_rung_from_json, data["rungs"])),
        }
        return cls(**values)


def _rung_from_json(data: Mapping[str, Any]) -> Rung:
    return Rung(**{**data, "changes": tuple(data["changes"]), "batch": Batch(**data["batch"])})


def _evaluate_from_json(data: Mapping[str, Any] | None) -> EvaluatePlan | None:
    if data is None:
        return None
    return EvaluatePlan(
        data["what"], tuple(data["run"]), None if data["mixture"] is None else Mixture.from_json(data["mixture"])
    )


@dataclass(frozen=True)
class Plan:
    """A curriculum, resolved.

    Attributes:
        name: as in the curriculum.
        output_dir: the run directory.
        schedule: "run", "stage" or "script".
        stages: in the order in which they train.
        prepare: commands before the first stage.
        data_cache: folder of the stores of its datasets; None without `data:`.
        warnings: what may go wrong, for people.
    """

    name: str
    output_dir: str
    schedule: str
    stages: tuple[PlannedStage, ...]
    prepare: tuple[PreparePlan, ...]
    data_cache: str | None
    warnings: tuple[str, ...]

    def chosen(self, only: str | None) -> tuple[PlannedStage, ...]:
        """The stage of a name, or every stage where none is asked for."""
        return tuple(stage for stage in self.stages if only in (None, stage.name))

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values. Known secrets are hidden, so a plan read back cannot launch with them."""
        data = asdict(self)
        data |= {key: redaction.hide(data[key]) for key in ("prepare", "warnings")}
        for stage in data["stages"]:
            secrets = redaction.known(stage["env"])
            stage |= {key: redaction.hide(stage[key], secrets) for key in _REPEATING}
            stage["env"] = hidden(redaction.hide(stage["env"], secrets))
        result: dict[str, Any] = json.loads(json.dumps({"version": VERSION, "kind": "plan", **data}))
        return result

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """Raises ValueError on another kind or version, KeyError or TypeError on missing or unknown fields."""
        if data.get("kind") != "plan" or data.get("version") != VERSION:
            found = f"{data.get('kind')} of version {data.get('version')}"
            raise ValueError(f"expected a plan of version {VERSION}, found {found}")
        values = {key: value for key, value in data.items() if key not in ("version", "kind")}
        values |= {
            "stages": tuple(map(PlannedStage.from_json, data["stages"])),
            "prepare": tuple(PreparePlan(tuple(item["run"]), item["creates"]) for item in data["prepare"]),
            "warnings": tuple(data["warnings"]),
        }
        return cls(**values)
