"""What the control side and the worker say to each other: StageTask in, StageResult out.

Two processes met by files: the control side writes `task.json`, the worker writes `result.json` and a heartbeat,
and the control side may ask for a stop through a control file. Every file is versioned JSON, written atomically.
Standard library only, Python 3.10 and newer.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from stepladder_worker import kinds, own_files, seal
from stepladder_worker.schedule import Curve

VERSION = 3

#: The environment variable through which a worker finds its task.
TASK_VARIABLE = "STEPLADDER_TASK"

#: What ended ranks other than 0, beside the result.
ERRORS_OF_RANKS = "error_rank*.json"

#: Copy of the manifest of the checkpoint that an attempt resumed in the middle of its stage, beside the result.
RESUMED = "resumed.json"

#: Heartbeats of ranks other than 0, beside that of rank 0.
HEARTBEATS_OF_RANKS = "heartbeat_rank*.json"

#: The environment variable with the process id of the engine that started a worker; unset for one started by hand.
ENGINE_VARIABLE = "STEPLADDER_ENGINE"

#: What a training process is doing.
PHASES = ("starting", "training", "saving", "evaluating", "ending")

#: What a process id can be: no system has larger ones, and none takes a larger number for one.
_LARGEST_PID = 2**31 - 1

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
        rung: how many rungs of the out-of-memory ladder this launch stands below the plan.
        hook: False only observes: evidence is recorded, nothing of the Trainer is changed.
        start_step: global step at the start of the stage.
        end_step: global step at which the stage ends, with a checkpoint.
        data_start_step: global step at which this stage's data order has its first sample. Equal to `start_step`
            for fresh data; that of an earlier stage where the data continues.
        output_dir: the stage's own directory (absolute).
        boundary_checkpoint: the checkpoint that the stage starts from (absolute); None for a stage from scratch.
        boundary_run_id: the run that wrote it: in a fork it may be another one; None for a stage from scratch.
        handover: what the boundary carries.
        curve: the planned learning rate; None leaves the script's scheduler alone.
        in_force: TrainingArguments that must hold in this stage, by name (those the curriculum states).
        engine: "deepspeed" or "fsdp" where the arguments bring in one, else None (a single process or DDP).
        trainable: patterns of the names of the parameters that are trained; None leaves that to the script.
        new_objective: the script trains another objective than the stage before (SFT, then DPO): the weights are
            handed over where the names agree, and a head may be new.
        result_path: where the worker writes its StageResult.
        heartbeat_path: where rank 0 writes its Heartbeat; those of other ranks stand beside it.
        control_path: a file that the control side makes to ask for a stop with a checkpoint.
    """

    run_id: str
    stage: str
    index: int
    attempt: int
    rung: int
    hook: bool
    start_step: int
    end_step: int
    data_start_step: int
    output_dir: str
    boundary_checkpoint: str | None
    boundary_run_id: str | None
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
        return seal.sealed({"version": VERSION, "kind": "stage_task", **asdict(self)})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StageTask:
        """Raises ContractError on another version, another kind, a broken seal, or missing or unknown fields."""
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
        if values["error"] is not None:
            _require_error(values["error"])
        return cls(**values)


@dataclass(frozen=True)
class Heartbeat:
    """Where a training process is, rewritten at most once a second, and whenever it starts doing something else.

    Attributes:
        pid: its process id.
        rank: its rank.
        step: completed optimizer steps (global step).
        end_step: global step at which the stage ends.
        loss: last logged training loss, None before the first log.
        step_seconds: mean duration of the last steps in seconds, None before the second step.
        longest_seconds: duration of the longest step of this process but its first, which may compile; None before
            the second one is done.
        time: seconds since the epoch at which this was written: when the process last got on.
        phase: one of PHASES.
    """

    pid: int
    rank: int
    step: int
    end_step: int
    loss: float | None
    step_seconds: float | None
    longest_seconds: float | None
    time: float
    phase: str

    def to_dict(self) -> dict[str, Any]:
        return {"version": VERSION, "kind": "heartbeat", **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Heartbeat:
        """Raises ContractError on another version, another kind, or missing, unknown or misshapen fields."""
        values = _checked(cls, data, "heartbeat")
        if values["phase"] not in PHASES:
            raise ContractError(f"heartbeat: phase is {values['phase']!r}, expected one of {', '.join(PHASES)}")
        if not 0 < values["pid"] <= _LARGEST_PID:
            raise ContractError(f"heartbeat: {values['pid']} is no process id")
        # A loss may be NaN; a time that is none would stop whoever reckons with it.
        if not all(math.isfinite(values[name] or 0) for name in ("time", "step_seconds", "longest_seconds")):
            raise ContractError("heartbeat: a time is not finite")
        return cls(**values)


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
        data = json.loads(read_bytes(path).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # ValueError: also a number of thousands of digits
        raise ContractError(f"not readable as JSON: {error}") from None
    if not isinstance(data, dict):
        raise ContractError(f"expected a JSON object, found {type(data).__name__}")
    return data


def read_sealed(path: str | Path) -> dict[str, Any]:
    """What `write_sealed` wrote, without its seal. Raises ContractError also for a document that was changed since."""
    return _unsealed(read_json(path))


def read_error(path: str | Path) -> dict[str, Any]:
    """What ended a rank other than 0, see `error_path`; raises ContractError."""
    error = read_json(path)
    _require_error(error)
    return error


def read_bytes(path: str | Path) -> bytes:
    """The content of a regular file; raises OSError for anything else: reading a pipe would wait for its writer."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"no regular file: {path}")
        return file.read()


def write_json(path: str | Path, data: Mapping[str, Any], durable: bool = True) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part.

    `durable` makes it last through a power loss; without it the write costs no disk flush (heartbeats).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = own_files.beside(path)
    with own_files.fresh(temporary) as file:
        file.write(json.dumps(data, indent=1, allow_nan=True).encode() + b"\n")
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
    if durable:
        sync(path.parent)


def write_sealed(path: str | Path, data: Mapping[str, Any]) -> None:
    """`write_json`, with a seal by which a reader sees whether the document is as it was written."""
    write_json(path, seal.sealed(data))


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


def heartbeat_path(of_rank_0: str | Path, rank: int) -> Path:
    """Where a rank writes its Heartbeat."""
    first = Path(of_rank_0)
    return first if rank == 0 else first.with_name(HEARTBEATS_OF_RANKS.replace("*", str(rank)))


def sync(path: Path) -> None:
    """Make the content of a file, or the names in a folder, last through a power loss, whoever wrote them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checked(cls: type[Any], data: Mapping[str, Any], kind: str) -> dict[str, Any]:
    if data.get("kind") != kind:
        raise ContractError(f"expected a {kind}, found {data.get('kind')!r}")
    if data.get("version") != VERSION:
        raise ContractError(f"{kind} of version {data.get('version')!r}, this Stepladder reads {VERSION}")
    if kind == "stage_task":
        data = _unsealed(data)
    values = {key: value for key, value in data.items() if key not in ("kind", "version")}
    names = {f.name for f in fields(cls)}
    if set(values) != names:
        wrong = sorted(set(values) ^ names)
        raise ContractError(f"{kind} with missing or unknown fields: {', '.join(wrong)}")
    trouble = None if kind == "stage_task" else kinds.wrong(cls, values)
    if trouble is not None:
        raise ContractError(f"{kind}: {trouble}")
    return values


def _require_error(error: Any) -> None:
    """Raises ContractError for what is not `{"type": text, "message": text}` and more."""
    if not isinstance(error, dict) or not all(isinstance(error.get(key), str) for key in ("type", "message")):
        raise ContractError("error has no type or no message")


def _unsealed(data: Mapping[str, Any]) -> dict[str, Any]:
    trouble = seal.broken(data)
    if trouble is not None:
        raise ContractError(trouble)
    return {key: value for key, value in data.items() if key != seal.KEY}
