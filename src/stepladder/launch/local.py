"""Starts the processes of a stage on this machine, and sees to it that none is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from stepladder.launch import guard
from stepladder.launch.stopping import PREEMPTING
from stepladder.records import log_file
from stepladder_worker.contract import ENGINE_VARIABLE, TASK_VARIABLE

#: Seconds between two looks at the processes.
POLL_SECONDS = 0.2
#: Options of torch.distributed.run by environment, which older ones without them pass over. See `_tie_to_engine`.
_LAUNCHER_ENV = {"PET_SIGNALS_TO_HANDLE": "SIGQUIT"}


@dataclass(frozen=True)
class Outcome:
    """How the processes of a stage ended. `seconds` is wall time."""

    exit_code: int
    seconds: float


def launch(argv: list[str], env: Mapping[str, str], task_file: Path, log: Path, look: Callable[[], bool]) -> Outcome:
    """Run one attempt of a stage to its end.

    `env` is added to this process's environment. The processes write straight to `log` (all ranks, stdout and
    stderr, as it happens), so a console that stops reading cannot block the training. `look` is called a few times a
    second and returns whether the processes are to be ended at once.
    """
    if sys.platform == "linux":
        guard.adopt_orphans()
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    started = time.monotonic()
    with log_file.opened(log) as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env, TASK_VARIABLE: str(task_file), ENGINE_VARIABLE: str(os.getpid())},
            start_new_session=True,  # Ctrl-C reaches this process alone, which then asks for a checkpoint
            preexec_fn=_tie_to_engine,
        )
        try:
            while process.poll() is None:
                if look():
                    end_processes(task_file, before)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_SECONDS)
        finally:
            end_processes(task_file, before)
            process.wait()
    return Outcome(process.returncode, time.monotonic() - started)


def end_processes(task_file: Path, before: set[int]) -> None:
    """Kill every descendant that is not one of `before` or works on this task.

    The ranks have sessions of their own, so a signal to the launcher's group would miss them; and what a script
    starts may have cleaned its environment. This process is a subreaper, so all of them are its descendants.
    """
    while victims := [p for p in psutil.Process().children(recursive=True) if _is_ours(p, task_file, before)]:
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        psutil.wait_procs(victims, timeout=10)


def _is_ours(process: psutil.Process, task_file: Path, before: set[int]) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return process.pid not in before or process.environ().get(TASK_VARIABLE) == str(task_file)
    except (psutil.Error, OSError):
        return False


def _tie_to_engine() -> None:
    """In the child, before exec: end with the engine, also when that is killed. The ranks end with the launcher.

    The launcher hears nothing of what a scheduler sends to every process of a job: it would end the ranks before they
    have saved. They take such signals themselves.
    """
    if sys.platform == "linux":
        guard.end_with_parent()
    for number in PREEMPTING:
        signal.signal(number, signal.SIG_IGN)


def variables(stage_env: Mapping[str, str], processes: int) -> dict[str, str]:
    """What a stage's environment has beyond this process's. Threads are fixed, so that a run can be repeated."""
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    return {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": threads, **_LAUNCHER_ENV, **stage_env}
