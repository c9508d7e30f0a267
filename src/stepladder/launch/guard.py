"""Runs a command as the child of a process of its own, so that nothing of it outlives the process that asked for it.

python guard.py PARENT REPORT PROGRAM ARGS...

The kernel tells this process when PARENT has ended, however that happened, and hands it every process of the command
that has lost its own parent. It ends as the command ends. Where the program cannot be started, the error's number is
written to the file descriptor REPORT. On Linux; standard library alone, as it is started without Stepladder.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_LIBC = ctypes.CDLL(None)

#: What is for the command itself: a scheduler or a terminal sends it to every process.
_FOR_THE_COMMAND = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


def main(parent: int, report: int, argv: list[str]) -> int:
    """Exit code of the command; the signal that ended it ends this process as well."""

    def ended(*_: object) -> None:
        if os.getppid() == parent:  # a request to stop
            _signal_descendants(signal.SIGTERM)
        else:
            _leave_nothing()
            os._exit(128 + signal.SIGTERM)

    ignored = [number for number in _FOR_THE_COMMAND if signal.signal(number, signal.SIG_IGN) == signal.SIG_IGN]
    signal.signal(signal.SIGTERM, ended)
    adopt_orphans()
    end_with_parent(signal.SIGTERM)
    if os.getppid() != parent:
        return 1
    os.set_inheritable(report, False)
    try:
        command = subprocess.Popen(argv, preexec_fn=lambda: _as_usual(ignored))
    except OSError as error:
        os.write(report, str(error.errno).encode())
        return 1
    os.close(report)
    code = command.wait()
    _leave_nothing()
    if code < 0:
        if code != -signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def adopt_orphans() -> None:
    """Processes below this one whose parent ends become its children, so that they can be found and ended."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Be sent this signal when the process that started this one ends, however it ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, number)


def _as_usual(ignored: list[signal.Signals]) -> None:
    """In the command, before it begins: signals as they were, and an end together with this process."""
    for number in (signal.SIGTERM, *_FOR_THE_COMMAND):
        signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
    end_with_parent()


def _leave_nothing() -> None:
    while _signal_descendants(signal.SIGKILL):
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)


def _signal_descendants(number: signal.Signals) -> bool:
    """Returns whether there were any."""
    found = _descendants(os.getpid())
    for process in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
    return bool(found)


def _descendants(process: int) -> list[int]:
    try:
        lists = [path.read_text("ascii") for path in Path(f"/proc/{process}/task").glob("*/children")]
    except OSError:
        return []
    children = [int(child) for text in lists for child in text.split()]
    return children + [below for child in children for below in _descendants(child)]


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
