"""What is there of a run already: held by one engine, never rewritten, set aside and not deleted."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from stepladder import console, hf_args
from stepladder.data.mixture import Mixture
from stepladder.errors import PlanError, Problem
from stepladder.journal import Journal
from stepladder.launch.pack import pack_worker
from stepladder.paths import RunDirectory
from stepladder.plan import Plan, PlannedStage
from stepladder.tasks import StageState, stage_state
from stepladder_worker.contract import ContractError, read_json, write_json

#: What of a finished stage may not change: it is what its checkpoint was made with.
FROZEN_WHEN_DONE = ("start_step", "end_step", "argv", "curve", "handover", "in_force", "output_dir", "mixture")
#: What of a stage with a checkpoint of its own may not change: the steps it made so far were made with it.
FROZEN_WHEN_BEGUN = ("start_step", "curve", "handover", "in_force", "output_dir", "mixture")
#: `status` looks whether the lock is held by taking it for a moment, so one refusal is not the last word.
LOCK_TRIES, LOCK_PAUSE_SECONDS = 5, 0.1


def write_down(directory: RunDirectory, plan: Plan, curriculum: Path) -> None:
    """Keep the plan and the curriculum, and pack the worker."""
    write_json(directory.plan, plan.to_json())
    shutil.copyfile(curriculum, directory.curriculum)
    pack_worker(directory.worker)


@contextlib.contextmanager
def locked(directory: RunDirectory) -> Iterator[None]:
    """Hold the run for this process; the lock of a dead process is none.

    Raises PlanError naming the holder, or when the directory cannot be made.
    """
    try:
        directory.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        hint = "give output_dir a directory that can be made"
        raise PlanError([Problem(str(directory.root), f"cannot be made: {error.strerror}", hint)]) from None
    with directory.lock.open("a+") as file:
        if not _taken(file):
            file.seek(0)
            holder = file.read().strip() or "another process"
            hint = "wait for it, or stop it with Ctrl-C there"
            raise PlanError([Problem(str(directory.root), f"is being run by {holder}", hint)])
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield


def _taken(file: IO[str]) -> bool:
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(LOCK_PAUSE_SECONDS)
    return False


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
    """Raises PlanError when a stage that is finished, or has begun, is not the one that was run."""
    try:
        before = {stage["name"]: stage for stage in read_json(directory.plan)["stages"]}
    except (ContractError, KeyError, TypeError):
        return
    now = {stage["name"]: stage for stage in plan.to_json()["stages"]}
    problems = [
        problem
        for stage in plan.stages
        if stage.name in before
        for problem in _changes(stage_state(directory, run_id, stage), stage.name, before[stage.name], now[stage.name])
    ]
    if problems:
        raise PlanError(problems)


def _changes(state: StageState, name: str, before: dict[str, Any], now: dict[str, Any]) -> Iterator[Problem]:
    keys: tuple[str, ...]
    if state.done:
        keys, word = FROZEN_WHEN_DONE, "is finished"
    elif state.latest is not None:
        keys, word = FROZEN_WHEN_BEGUN, f"has begun ({state.latest.name})"
    else:
        return
    hint = f"take the change back, or set this stage and what follows aside with `--fresh --stage {name}`"
    data = {f"args.{key}": (before["args"].get(key), now["args"].get(key)) for key in hf_args.DATA_ARGS}
    for key, (old, new) in {**data, **{key: (before.get(key), now.get(key)) for key in keys}}.items():
        if key == "mixture" and _key(old) == _key(new):
            continue
        if old != new:
            yield Problem(f"stage {name}", f"{word}; its {key} was {_difference(old, new)}", hint)


def _key(mixture: dict[str, Any] | None) -> str | None:
    """What of a mixture decides which samples come when."""
    return None if mixture is None else Mixture.from_json(mixture).key


def _difference(before: Any, now: Any) -> str:
    """Old and new value; of lists and mappings only what differs."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
        before, now = {key: before.get(key) for key in keys}, {key: now.get(key) for key in keys}
    elif isinstance(before, list) and isinstance(now, list):
        old = [word for word in before if word not in now]
        before, now = " ".join(old) or "without", " ".join(word for word in now if word not in before)
    return f"{before}, now {now}"


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
    if only is not None and directory.journal.exists():
        Journal(directory.journal).append("set_aside", stages=[stage.name for stage in _from(plan, only)])


def _folders(directory: RunDirectory, plan: Plan, only: str | None) -> list[Path]:
    later = _from(plan, only)
    stage_folders = [Path(stage.output_dir) for stage in later]
    if only is None:
        outside = [folder for folder in stage_folders if directory.root not in folder.parents]
        return [*outside, directory.root]
    return [*stage_folders, *(directory.attempts(stage.index, stage.name) for stage in later)]


def _from(plan: Plan, only: str | None) -> list[PlannedStage]:
    """The named stage and all that follow; every stage without a name."""
    first = next((stage.index for stage in plan.stages if stage.name == only), 1)
    return [stage for stage in plan.stages if stage.index >= first]
