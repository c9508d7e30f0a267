"""What the control side and the worker say to each other: StageTask in, StageResult out.

Two processes met by files: the control side writes `task.json`, the worker writes `result.json` and a heartbeat,
and the control side may ask for a stop through a control file. Every file is versioned JSON, written atomically.
Standard library only, Python 3.10 and newer.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from stepladder_worker.schedule import Curve

VERSION = 2

#: The environment variable through which a worker finds its task.
TASK_VARIABLE = "STEPLADDER_TASK"

#: What ended ranks other than 0, beside the result.
ERRORS_OF_RANKS = "error_rank*.json"

#: Exit code of a worker that was asked to stop and left a checkpoint (EX_TEMPFAIL of sysexits.h).
EXIT_STOPPED = 75

#: Exit code of a worker that refuses its task or sees the contract broken (EX_SOFTWARE of sysexits.h).
EXIT_CONTRACT = 70


class ContractError(ValueError):
    """A task or result file cannot be read as what it should be; the message names the file and the reason."""


@dataclass(frozen=True)
class Handover:
    """What a boundary carries besides the weights. See docs/curriculum.md.

    Attributes:
        optimizer: "keep" carries every moment and step counter, "reset" starts a fresh optimizer.
        rng: "keep" restores the random state of the checkpoint, "reset" leaves the script's own seed.
        data: "fresh" starts the stage's data at its first sample, "continue" goes on where the last stage stopped.
    """

    optimizer: str = "keep"
    rng: str = "keep"
    data: str = "fresh"


@dataclass(frozen=True)
class StageTask:
    """One attempt at one stage, as the worker needs to know it.

    Attributes:
        run_id: names the run; evidence and checkpoints carry it.
        stage: name of the stage.
        index: position of the stage, from 1.
        attempt: launch of this stage, from 1.
        hook: False only observes: evidence is recorded, nothing of the Trainer is changed.
        start_step: global step at the start of the stage.
        end_step: global step at which the stage ends, with a checkpoint.
        data_start_step: global step at which this stage's data order has its first sample. Equal to `start_step`
            for fresh data; that of an earlier stage where the data continues.
        output_dir: the stage's own directory (absolute).
        boundary_checkpoint: the checkpoint that the stage starts from (absolute); None for a stage from scratch.
        handover: what the boundary carries.
        curve: the planned learning rate; None leaves the script's scheduler alone.
        in_force: TrainingArguments that must hold in this stage, by name (those the curriculum states).
        engine: "deepspeed" or "fsdp" where the arguments bring in one, else None (a single process or DDP).
        trainable: patterns of the names of the parameters that are trained; None leaves that to the script.
        new_objective: the script trains another objective than the stage before (SFT, then DPO): the weights are
            handed over where the names agree, and a head may be new.
        result_path: where the worker writes its StageResult.
        heartbeat_path: where rank 0 writes its Heartbeat.
        control_path: where the control side asks for a stop (`{"stop_step": int}`).
    """

    run_id: str
    stage: str
    index: int
    attempt: int
    hook: bool
    start_step: int
    end_step: int
    data_start_step: int
    output_dir: str
    boundary_checkpoint: str | None
    handover: Handover
    curve: Curve | None
    in_force: dict[str, Any]
    engine: str | None
    trainable: list[str] | None
    new_objective: bool
    result_path: str
    heartbeat_path: str
    control_path: str

    def to_dict(self) -> dict[str, Any]:
        return {"version": VERSION, "kind": "stage_task", **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StageTask:
        """Raises ContractError on another version, another kind, or missing or unknown fields."""
        values = _checked(cls, data, "stage_task")
        try:
            values["handover"] = Handover(**values["handover"])
            values["curve"] = None if values["curve"] is None else Curve.from_dict(values["curve"])
        except TypeError as error:
            raise ContractError(f"stage_task: {error}") from error
        return cls(**values)


@dataclass
class StageResult:
    """What one attempt at one stage left as evidence.

    Attributes:
        run_id, stage, attempt: copied from the task.
        task_digest: SHA-256 of the task file the worker read.
        status: "running" (rewritten at every checkpoint, so that a killed attempt leaves what it proved),
            "complete" (reached end_step with a checkpoint), "stopped" (asked to, with a checkpoint),
            "untrained" (the script ended without training), "failed".
        error: `{"type", "message", "traceback"}` of what ended the script, or None.
        evidence: the recorded facts, see docs/evidence.md.
    """

    run_id: str
    stage: str
    attempt: int
    task_digest: str
    status: str
    error: dict[str, str] | None = None
    evidence: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {"version": VERSION, "kind": "stage_result", **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StageResult:
        """Raises ContractError on another version, another kind, or missing, unknown or misshapen fields."""
        values = _checked(cls, data, "stage_result")
        if not isinstance(values["evidence"], dict) or not isinstance(values["error"], (dict, type(None))):
            raise ContractError("stage_result: evidence or error is no object")
        return cls(**values)


@dataclass(frozen=True)
class Heartbeat:
    """Where rank 0 is, rewritten at most once a second.

    Attributes:
        pid: process id of rank 0.
        step: completed optimizer steps (global step).
        end_step: global step at which the stage ends.
        loss: last logged training loss, None before the first log.
        step_seconds: mean duration of the last steps in seconds, None before the second step.
        time: seconds since the epoch at which this was written.
        phase: "starting", "training", "saving", "ending".
    """

    pid: int
    step: int
    end_step: int
    loss: float | None
    step_seconds: float | None
    time: float
    phase: str

    def to_dict(self) -> dict[str, Any]:
        return {"version": VERSION, "kind": "heartbeat", **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Heartbeat:
        """Raises ContractError on another version, another kind, or missing or unknown fields."""
        return cls(**_checked(cls, data, "heartbeat"))


Message = TypeVar("Message", StageTask, StageResult, Heartbeat)


def read(kind: type[Message], path: str | Path) -> Message:
    """Read one message; raises ContractError naming the file when it is missing, cut short or not of this kind."""
    try:
        return kind.from_dict(read_json(path))
    except ContractError as error:
        raise ContractError(f"{path}: {error}") from None


def read_json(path: str | Path) -> dict[str, Any]:
    """A JSON object from a file; raises ContractError when it is missing, unreadable or not an object."""
    try:
        data = json.loads(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ContractError(f"not readable as JSON: {error}") from None
    if not isinstance(data, dict):
        raise ContractError(f"expected a JSON object, found {type(data).__name__}")
    return data


def write_json(path: str | Path, data: Mapping[str, Any], durable: bool = True) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part.

    `durable` makes it last through a power loss; without it the write costs no disk flush (heartbeats).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(data, file, indent=1, allow_nan=True)
        file.write("\n")
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
    if durable:
        _sync_folder(path.parent)


def digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        sha = hashlib.sha256()
        while chunk := file.read(1 << 20):
            sha.update(chunk)
    return sha.hexdigest()


def error_path(result_path: str | Path, rank: int) -> Path:
    """Where a rank other than 0 writes `{"rank", "type", "message", "traceback"}` of what ended it."""
    return Path(result_path).with_name(ERRORS_OF_RANKS.replace("*", str(rank)))


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` last through a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checked(cls: type[Any], data: Mapping[str, Any], kind: str) -> dict[str, Any]:
    if data.get("kind") != kind:
        raise ContractError(f"expected a {kind}, found {data.get('kind')!r}")
    if data.get("version") != VERSION:
        raise ContractError(f"{kind} of version {data.get('version')!r}, this Stepladder reads {VERSION}")
    values = {key: value for key, value in data.items() if key not in ("kind", "version")}
    names = {f.name for f in fields(cls)}
    if set(values) != names:
        wrong = sorted(set(values) ^ names)
        raise ContractError(f"{kind} with missing or unknown fields: {', '.join(wrong)}")
    return values
