"""Requests to stop: a person's Ctrl-C, or pre-emption by a scheduler or a time limit."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from stepladder.errors import Interrupted, Preempted
from stepladder.launch import tied

#: What a scheduler sends before it takes the machine away; Slurm sends SIGUSR1 where `--signal=USR1` says so. A
#: terminal that is gone (SIGHUP) leaves nobody who could press Ctrl-C.
PREEMPTING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class StopRequest:
    """Remembers requests to stop. The first asks for a checkpoint; a second Ctrl-C ends the training at once.

    Attributes:
        interrupts: how often Ctrl-C was pressed.
        preempted: why the training must make room ("SIGTERM", "its time limit of 3600 s"), or None.
    """

    def __init__(self) -> None:
        self.interrupts = 0
        self.preempted: str | None = None

    @property
    def made(self) -> bool:
        return self.interrupts > 0 or self.preempted is not None

    @property
    def urgent(self) -> bool:
        """Without a checkpoint: a scheduler may signal several times, a person does so on purpose."""
        return self.interrupts > (0 if self.preempted else 1)

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT:
            self.interrupts += 1
        else:
            self.preempt(signal.Signals(signum).name)
        tied.end_all()

    def preempt(self, why: str) -> None:
        """Make room, as a scheduler would ask for."""
        self.preempted = self.preempted or why

    def error(self, text: str, hint: str | None = "the same command continues it") -> Interrupted:
        """What ends the command after the request was followed."""
        if self.preempted is not None and not self.interrupts:
            return Preempted(f"{text} ({self.preempted})", hint=hint)
        return Interrupted(text, hint=hint)


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Signals that ask for a stop are remembered instead of ending this process, inside this block.

    In the main thread only. A SIGHUP that is ignored (nohup) stays ignored.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    kept = [number for number in PREEMPTING if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, request) for number in (signal.SIGINT, *kept)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
