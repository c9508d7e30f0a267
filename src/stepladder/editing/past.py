"""What is there of a run already: held by one engine, never rewritten, set aside and not deleted."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from stepladder import console, paths
from stepladder.attempts import ladder
from stepladder.attempts.tasks import StageState, stage_state
from stepladder.curriculum.copy import hidden_secrets, with_values
from stepladder.editing import edits, lineage
from stepladder.errors import PlanError, Problem
from stepladder.launch.pack import pack_worker
from stepladder.paths import RunDirectory
from stepladder.planning.plan import Plan, PlannedStage
from stepladder.records.events import Event, ended_well
from stepladder.records.journal import Journal
from stepladder_worker import own_files
from stepladder_worker.contract import ContractError, read_sealed, write_sealed
from stepladder_worker.schedule import Curve

#: `status` looks whether the lock is held by taking it for a moment, so one refusal is not the last word.
LOCK_TRIES, LOCK_PAUSE_SECONDS = 5, 0.1


def write_down(directory: RunDirectory, plan: Plan, curriculum: Path, forked: bool = False) -> None:
    """Keep the plan and the curriculum, of a fork under its own name, and pack the worker."""
    write_sealed(directory.plan, plan.to_json())
    kept = hidden_secrets(curriculum.read_text("utf-8"), str(curriculum))
    if forked:
        kept = with_values(kept, {"name": plan.name, "output_dir": plan.output_dir})
    temporary = own_files.beside(directory.curriculum)
    with own_files.fresh(temporary) as file:
        file.write(kept.encode())
    temporary.replace(directory.curriculum)
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
    with _opened(directory.lock) as file:
        if not _taken(file):
            file.seek(0)
            holder = file.read().decode(errors="replace").strip() or "another process"
            hint = "wait for it, or stop it with Ctrl-C there"
            raise PlanError([Problem(str(directory.root), f"is being run by {holder}", hint)])
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()} since {time.strftime('%Y-%m-%d %H:%M:%S')}".encode())
        file.flush()
        yield


def _opened(lock: Path) -> IO[bytes]:
    try:
        return own_files.grown(lock)
    except OSError as error:
        what = "is a link, and is not followed" if lock.is_symlink() else f"cannot be written: {error.strerror}"
        raise PlanError([Problem(str(lock), what, "move away what stands there")]) from None


def _taken(file: IO[bytes]) -> bool:
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


def accepted(directory: RunDirectory, run_id: str, plan: Plan) -> edits.Edit:
    """How the curriculum was edited since its run was last run, and the plan that holds now; writes nothing.

    Raises PlanError when the edit would rewrite what was trained, or what was recorded of that cannot be read.
    """
    recorded = _recorded(directory, run_id, plan)
    if recorded is None:
        return edits.no_edit(plan)
    edit = edits.compare(recorded, plan, standings(directory, run_id, recorded))
    if edit.problems:
        raise PlanError(edit.problems)
    return edit


def record(edit: edits.Edit, journal: Journal) -> None:
    """Show an accepted edit, and write it into the journal: before the plan, and before anything is trained with it."""
    if edit.differences or edit.curves:
        curves = {name: {"before": _json(old), "now": _json(new)} for name, (old, new) in edit.curves.items()}
        journal.append(Event.EDITED, differences=[asdict(item) for item in edit.differences], curves=curves)
        tell(edit)


def tell(edit: edits.Edit) -> None:
    """Show an edit of a run's curriculum, where there is one."""
    if edit.differences or edit.curves:
        say(edit, "the curriculum was edited")


def standings(directory: RunDirectory, run_id: str, plan: Plan) -> dict[str, edits.Standing]:
    """How far the stages of a run have come, by name.

    A finished stage stays one when its last checkpoint is damaged or away for a while: others were trained on what it
    was, and it may come back.
    """
    events = Journal(directory.journal).read()
    states = [(stage, stage_state(directory, run_id, stage)) for stage in plan.stages]
    continued = max((stage.index for stage, state in states if state.latest is not None), default=0)
    return {
        stage.name: edits.Standing(
            done=state.done or state.inherited is not None or stage.index < continued or ended_well(events, stage.name),
            reached=_reached(state),
            rung=ladder.taken(events, stage),
        )
        for stage, state in states
    }


def say(edit: edits.Edit, first: str) -> None:
    """Show an edit, one line a difference."""
    console.note("\n  ".join([f"{first}:" if edit.differences else first, *map(str, edit.differences)]))
    if edit.jump:
        console.warn(edit.jump)


def _reached(state: StageState) -> int | None:
    return None if state.latest is None else paths.step_of(state.latest)


def _recorded(directory: RunDirectory, run_id: str, plan: Plan) -> Plan | None:
    """The plan that the run was last run with; None where there is none, or nothing was trained with it."""
    if not directory.plan.exists():
        return None
    try:
        return Plan.from_json(read_sealed(directory.plan))
    except (ContractError, KeyError, TypeError, ValueError) as error:
        if not any(stage_state(directory, run_id, stage).attempts for stage in plan.stages):
            return None
        text = f"cannot be read, so what was trained cannot be compared with the curriculum: {error}"
        hint = "put it back as it was, or set the run aside with `--fresh` and start anew"
        raise PlanError([Problem(str(directory.plan), text, hint)]) from None


def _json(curve: Curve | None) -> dict[str, Any] | None:
    return None if curve is None else curve.to_dict()


def set_aside(directory: RunDirectory, plan: Plan, only: str | None) -> None:
    """Rename what an earlier run left, from stage `only` on or all of it. Nothing is deleted."""
    if directory.root.exists():
        with locked(directory):
            pass
    suffix = time.strftime(".before-%Y%m%d-%H%M%S")
    later = _from(directory, plan, only)
    if only is not None:
        lineage.forget(directory, [stage.name for stage in later])
    for folder in _folders(directory, later, only):
        if folder.exists():
            target = folder.with_name(folder.name + suffix)
            folder.rename(target)
            console.note(f"set aside {folder} as {target}")
    if only is not None and directory.journal.exists():
        Journal(directory.journal).append(Event.SET_ASIDE, stages=sorted({stage.name for stage in later}))


def _folders(directory: RunDirectory, later: list[PlannedStage], only: str | None) -> list[Path]:
    stage_folders = [Path(stage.output_dir) for stage in later]
    if only is None:
        outside = [folder for folder in stage_folders if directory.root not in folder.parents]
        return [*outside, directory.root]
    return [*stage_folders, *(directory.attempts(stage.index, stage.name) for stage in later)]


def _from(directory: RunDirectory, plan: Plan, only: str | None) -> list[PlannedStage]:
    """The named stage and all that follow, every stage without a name; also those that the curriculum had before."""
    first = next((stage.index for stage in plan.stages if stage.name == only), 1)
    recorded: tuple[PlannedStage, ...] = ()
    with contextlib.suppress(ContractError, KeyError, TypeError, ValueError):
        recorded = Plan.from_json(read_sealed(directory.plan)).stages
    return [stage for stage in (*plan.stages, *recorded) if stage.index >= first]
