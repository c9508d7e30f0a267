"""What a run may not do to what is there already: two engines at once, a rewritten past, a lost directory."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from stepladder import console
from stepladder.errors import PlanError, Problem, RunError
from stepladder.paths import RunDirectory
from stepladder.plan import Plan, PlannedStage
from stepladder.tasks import stage_state
from stepladder_worker.contract import ContractError, read_json

#: What of a finished stage may not change: it is what its checkpoint was made with.
FROZEN = ("name", "start_step", "end_step", "argv", "curve", "handover", "output_dir")


@contextlib.contextmanager
def locked(directory: RunDirectory) -> Iterator[None]:
    """Hold the run for this process; the lock of a dead process is none. Raises RunError naming the holder."""
    directory.root.mkdir(parents=True, exist_ok=True)
    with directory.lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise RunError(
                f"{directory.root} is being run by {holder}", hint="wait for it, or stop it with Ctrl-C there"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield


def is_held(directory: RunDirectory) -> bool:
    """Whether an engine works on the run now."""
    try:
        with directory.lock.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def require_unchanged(directory: RunDirectory, run_id: str, plan: Plan) -> None:
    """Raises PlanError when a finished stage of the plan is not the one that was run."""
    try:
        before = {stage["name"]: stage for stage in read_json(directory.plan)["stages"]}
    except (ContractError, KeyError, TypeError):
        return
    now = {stage["name"]: stage for stage in plan.to_json()["stages"]}
    hint = "take the change back, give this curriculum another output_dir, or start anew with --fresh"
    changes = [
        Problem(
            f"stage {stage.name}",
            f"is finished; its {key} was {before[stage.name].get(key)!r}, now {now[stage.name].get(key)!r}",
            hint,
        )
        for stage in plan.stages
        if stage.name in before and stage_state(directory, run_id, stage).done
        for key in FROZEN
        if before[stage.name].get(key) != now[stage.name].get(key)
    ]
    if changes:
        raise PlanError(changes)


def set_aside(directory: RunDirectory, plan: Plan, only: str | None) -> None:
    """Rename what an earlier run left, from stage `only` on or all of it. Nothing is deleted."""
    if directory.root.exists():
        with locked(directory):
            pass
    suffix = time.strftime(".before-%Y%m%d-%H%M%S")
    for folder in _folders(directory, plan, only):
        if folder.exists():
            target = folder.with_name(folder.name + suffix)
            folder.rename(target)
            console.note(f"set aside {folder} as {target}")


def _folders(directory: RunDirectory, plan: Plan, only: str | None) -> list[Path]:
    first = next((stage.index for stage in plan.stages if stage.name == only), 1)
    later = [stage for stage in plan.stages if stage.index >= first]
    stage_folders = [Path(stage.output_dir) for stage in later]
    if only is None:
        outside = [folder for folder in stage_folders if directory.root not in folder.parents]
        return [*outside, directory.root]
    return [*stage_folders, *(_attempts(directory, stage) for stage in later)]


def _attempts(directory: RunDirectory, stage: PlannedStage) -> Path:
    return directory.attempts(stage.index, stage.name)
