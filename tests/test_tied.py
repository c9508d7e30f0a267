"""Commands beside the training (`prepare`, `evaluate`) end with whatever started them, children and all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from stepladder.launch import tied
from support import ENVIRONMENT

#: Leaves a child in a session of its own, names both processes in a file, and waits.
PROGRAM = """
import os, signal, subprocess, sys, time
for number in (signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, signal.SIG_DFL)  # `nohup pytest` leaves the first one ignored
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
with open("pids.new", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.rename("pids.new", "pids")
time.sleep(float(sys.argv[1]))
sys.exit(7)
"""
STARTER = """
import sys
from stepladder.launch import tied
with tied.running([sys.executable, "-c", *sys.argv[1:]]) as process:
    process.wait()
"""


def pids(folder: Path) -> list[int]:
    deadline = time.monotonic() + 30
    while not (folder / "pids").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return [int(pid) for pid in (folder / "pids").read_text().split()]


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def require_gone(numbers: list[int]) -> None:
    deadline = time.monotonic() + 5
    while not all(map(gone, numbers)):
        assert time.monotonic() < deadline, [psutil.Process(pid) for pid in numbers if not gone(pid)]
        time.sleep(0.02)


def test_nothing_outlives_a_command_that_ends(tmp_path: Path) -> None:
    with tied.running([sys.executable, "-c", PROGRAM, "0"], cwd=tmp_path) as process:
        assert process.wait() == 7
    require_gone(pids(tmp_path))


def test_nothing_outlives_whoever_started_it(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", STARTER, PROGRAM, "600"]
    with subprocess.Popen(argv, cwd=tmp_path, env=ENVIRONMENT) as starter:
        numbers = pids(tmp_path)
        assert not any(map(gone, numbers))
        starter.kill()
    require_gone(numbers)


def test_a_stop_reaches_what_the_command_has_started(tmp_path: Path) -> None:
    """Also while that keeps the command's output open, and though nobody waits for the command itself."""
    with tied.running([sys.executable, "-c", PROGRAM, "600"], cwd=tmp_path, stdout=subprocess.PIPE) as process:
        numbers = pids(tmp_path)
        tied.end_all()
        assert process.stdout is not None
        assert process.stdout.read() == b""
    assert process.returncode == -signal.SIGTERM
    require_gone(numbers)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_what_a_scheduler_sends_to_all_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with tied.running([sys.executable, "-c", PROGRAM, "600"], cwd=tmp_path) as process:
        numbers = pids(tmp_path)
        for pid in (process.pid, *numbers):
            os.kill(pid, number)
        assert process.wait() == -number
    require_gone(numbers)


@pytest.mark.parametrize(("program", "error"), [("./none", FileNotFoundError), (".", PermissionError)])
def test_what_cannot_be_started_is_said(program: str, error: type[OSError]) -> None:
    with pytest.raises(error), tied.running([program]):
        pass
