"""Starts the processes of a stage on this machine, and sees to it that none is left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

from stepladder_worker.contract import TASK_VARIABLE

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h

#: Seconds between two looks at the processes.
POLL_SECONDS = 0.2
#: Seconds that a training asked to stop has for its checkpoint, before it is ended.
STOP_GRACE_SECONDS = 600.0


class StopRequest:
    """Counts the requests to stop (Ctrl-C, SIGTERM): the first asks for a checkpoint, the second ends it."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self.count += 1


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """SIGINT, SIGTERM and SIGHUP are counted instead of raising, inside this block (main thread only).

    A SIGHUP that is ignored (nohup) stays ignored.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, request) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class Outcome:
    """How the processes of a stage ended. `seconds` is wall time; `stopped` says that we were asked to stop."""

    exit_code: int
    seconds: float
    stopped: bool


def launch(
    argv: list[str],
    env: Mapping[str, str],
    task_file: Path,
    log: Path,
    request: StopRequest,
    ask_to_stop: Callable[[], bool],
    tick: Callable[[], None],
) -> Outcome:
    """Run one attempt of a stage to its end.

    `env` is added to this process's environment. The processes write straight to `log` (all ranks, stdout and
    stderr, as it happens), so a console that stops reading cannot block the training. `ask_to_stop` asks the worker
    for a checkpoint and returns False when there is nothing to save yet. `tick` is called a few times a second.
    """
    _become_subreaper()
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    started, asked_at, stopped = time.monotonic(), 0.0, False
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab", buffering=0) as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env, TASK_VARIABLE: str(task_file)},
            start_new_session=True,  # Ctrl-C reaches this process alone, which then asks for a checkpoint
            preexec_fn=_die_with_engine if sys.platform == "linux" else None,
        )
        try:
            while process.poll() is None:
                if request.count and not asked_at:
                    asked_at, stopped = time.monotonic(), True
                    if not ask_to_stop():
                        end_processes(task_file, before)
                if asked_at and (request.count > 1 or time.monotonic() - asked_at > STOP_GRACE_SECONDS):
                    end_processes(task_file, before)
                tick()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_SECONDS)
        finally:
            end_processes(task_file, before)
            process.wait()
    return Outcome(process.returncode, time.monotonic() - started, stopped)


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


def _become_subreaper() -> None:
    """On Linux, processes whose launcher died become our children, so that they can be found and ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _die_with_engine() -> None:
    """In the child, before exec: end with the engine, also when that is killed. The ranks end with the launcher."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def variables(stage_env: Mapping[str, str], processes: int) -> dict[str, str]:
    """What a stage's environment has beyond this process's. Threads are fixed, so that a run can be repeated."""
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    return {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": threads, **stage_env}
