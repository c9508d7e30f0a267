"""The manifest of a checkpoint: what makes it complete, and what state it holds.

`trainer_state.json` is written by rank 0 without a closing barrier, so it does not prove that a checkpoint is
complete. The manifest does: sizes and checksums of every file, written last, atomically, after a barrier. It also
holds the by-name fingerprints of what was saved, which the next stage compares with what it loaded.
Standard library only.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from stepladder_worker.contract import ContractError, digest, read_json, read_sealed, sync, write_json, write_sealed

NAME = "stepladder.json"
VERSION = 3
#: Files up to this size, in bytes, are compared by their checksums before anything goes on from a checkpoint.
SMALL = 1 << 20


@dataclass(frozen=True)
class Manifest:
    """What a complete checkpoint says of itself.

    Attributes:
        run_id, stage, attempt: who wrote it.
        global_step: completed optimizer steps.
        world_size: processes that wrote it.
        files: relative path -> `{"size": bytes, "sha256": hex}` of every other file of the checkpoint.
        state: the Snapshot saved (see `stepladder_worker.snapshot`), as a dictionary.
    """

    run_id: str
    stage: str
    attempt: int
    global_step: int
    world_size: int
    files: dict[str, dict[str, Any]]
    state: dict[str, Any]


def write(checkpoint: Path, run_id: str, stage: str, attempt: int, world_size: int, state: Mapping[str, Any]) -> None:
    """Declare `checkpoint` complete: call it after every rank has written its files.

    All of them are on the disk before the manifest is: what a power loss leaves with a manifest is whole.
    """
    files = {name: {"size": path.stat().st_size, "sha256": digest(path)} for name, path in _files(checkpoint)}
    for _, path in _files(checkpoint):
        sync(path)
    for folder in [path for path in checkpoint.rglob("*") if path.is_dir()]:
        sync(folder)
    for folder in (checkpoint, *list(checkpoint.absolute().parents)[:2]):  # the names of checkpoint and stage directory
        sync(folder)
    manifest = Manifest(run_id, stage, attempt, int(state["global_step"]), world_size, files, dict(state))
    write_sealed(checkpoint / NAME, {"version": VERSION, "kind": "checkpoint_manifest", **asdict(manifest)})


def read(checkpoint: Path) -> Manifest:
    """Raises ContractError when there is no manifest, it cannot be read, or it is not as it was written."""
    return read_file(checkpoint / NAME)


def read_file(path: Path) -> Manifest:
    """A manifest, or the copy of one, by its own path; raises ContractError as `read` does."""
    data = read_sealed(path)
    if data.pop("kind", None) != "checkpoint_manifest" or data.pop("version", None) != VERSION:
        raise ContractError(f"{path}: not a checkpoint manifest of version {VERSION}")
    names = {f.name for f in fields(Manifest)}
    if set(data) != names or not isinstance(data["files"], dict) or not isinstance(data["state"], dict):
        raise ContractError(f"{path}: missing or unknown fields")
    return Manifest(**data)


def copy(checkpoint: Path, to: Path) -> None:
    """Keep the manifest of a checkpoint that may be rotated away, seal and all."""
    write_json(to, read_json(checkpoint / NAME))


def find(checkpoint: Path) -> Manifest | None:
    """The manifest of a checkpoint; None without a readable one."""
    try:
        return read(checkpoint)
    except ContractError:
        return None


def owner(checkpoint: Path) -> str | None:
    """Id of the run that completed a checkpoint; None for one without a readable manifest."""
    found = find(checkpoint)
    return None if found is None else found.run_id


def differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[str]:
    """Names whose entries in two parts of a state (weights, moments, counters) differ or are on one side only."""
    return sorted(name for name in {*left, *right} if left.get(name) != right.get(name))


def problems(checkpoint: Path, compared: float = 0) -> list[str]:
    """Why a checkpoint is not complete; empty when it is.

    Sizes are compared, and checksums of files up to `compared` bytes (`math.inf`: of all).
    """
    try:
        manifest = read(checkpoint)
    except ContractError as error:
        return [f"no readable manifest: {error}"]
    found = []
    for name, entry in sorted(manifest.files.items()):
        path = checkpoint / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif path.stat().st_size != entry["size"]:
            found.append(f"{name} has {path.stat().st_size} bytes, {entry['size']} were written")
        elif entry["size"] <= compared and digest(path) != entry["sha256"]:
            found.append(f"{name} differs from what was written (checksum)")
    return found


def latest(stage_dir: Path, run_id: str, stage: str, first: int, last: int) -> Path | None:
    """The complete checkpoint of this run and stage with the highest step in [first, last]; None without one."""
    for step, path in sorted(checkpoints(stage_dir), reverse=True):
        if not first <= step <= last or problems(path):
            continue
        manifest = read(path)
        if (manifest.run_id, manifest.stage, manifest.global_step) == (run_id, stage, step):
            return path
    return None


def checkpoints(stage_dir: Path) -> list[tuple[int, Path]]:
    """Every `checkpoint-N` directory as (N, path), complete or not."""
    found = ((path.name.removeprefix("checkpoint-"), path) for path in stage_dir.glob("checkpoint-*"))
    return [(int(step), path) for step, path in found if step.isdigit() and path.is_dir()]


def discard(checkpoint: Path) -> None:
    """Delete a checkpoint, its manifest first: a deletion cut short leaves no checkpoint that looks complete."""
    (checkpoint / NAME).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)


def _files(checkpoint: Path) -> list[tuple[str, Path]]:
    paths = (path for path in sorted(checkpoint.rglob("*")) if path.is_file() and path != checkpoint / NAME)
    return [(path.relative_to(checkpoint).as_posix(), path) for path in paths]
