"""Signals that reach a training process: requests to stop are remembered, stacks are shown, no child is left behind.

A scheduler signals every process of a job (Slurm at a time limit: SIGTERM, or what `--signal` says, often SIGUSR1),
and torch.distributed.run ends the siblings of a rank that failed with the same SIGTERM. The first is a request to
stop with a checkpoint; after the second no step will ever be finished. They are told apart by whether a sibling is
gone. Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from types import FrameType

#: Python stacks of all threads go to stderr, which is the stage's log, also while a thread is stuck in native code.
STACKS = signal.SIGUSR2
#: What asks for a stop with a checkpoint.
REQUESTS = (signal.SIGTERM, signal.SIGUSR1)

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

_requested = False
_forked_by_main_thread = True


def install(take_requests: bool) -> None:
    """Show stacks when asked, end forked children with this process and, with `take_requests`, remember requests."""
    faulthandler.register(STACKS, all_threads=True)
    os.register_at_fork(before=_remember_thread, after_in_child=_leave_to_child)
    for number in REQUESTS:
        # Not as inherited: the launcher ignores them, since a scheduler sends them to all processes of a job.
        signal.signal(number, _request if take_requests else signal.SIG_DFL)
    if take_requests:
        _watch_for_a_lost_sibling()


def stop_requested() -> bool:
    """Whether this process was asked to stop with a checkpoint."""
    return _requested


def end_with_parent() -> None:
    """On Linux, be killed when the parent ends: one that is killed leaves no process behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def heed_parent_only() -> None:
    """In a worker of a data loader: what a scheduler sends to every process of the job is for the ranks to follow.

    A rank whose data worker ends loses the step that it wants to save. torch ends a worker that does not end by
    itself with SIGTERM too, and then waits for it: one from the parent is followed as ever.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):  # macOS does not tell who sent a signal
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    parent = os.getppid()

    def obey() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            pass
        os._exit(0)

    threading.Thread(target=obey, name="stepladder-signals", daemon=True).start()


def _request(number: int, frame: FrameType | None) -> None:
    global _requested
    _requested = True


def _watch_for_a_lost_sibling() -> None:
    """A thread, because the main one may wait in native code for the very rank that is gone, and handle no signal."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

    def watch() -> None:
        # The writer is named here so that it lives as long as the thread does.
        while writer.fileno() >= 0 and (number := reader.recv(1)):
            if number[0] == signal.SIGTERM and not _siblings_live():
                os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, name="stepladder-signals", daemon=True).start()


def _siblings_live() -> bool:
    """Whether the launcher still has as many children as it started ranks; True where the system does not tell."""
    parent = os.getppid()
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text("ascii").split()
        return len(children) >= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return True


def _remember_thread() -> None:
    global _forked_by_main_thread
    _forked_by_main_thread = threading.current_thread() is threading.main_thread()


def _leave_to_child() -> None:
    """In a forked child (a worker of a data loader): the usual signals, and an end together with this process.

    The kernel ends it with the thread that forked it, so a child of another thread than the main one is left alone.
    """
    signal.set_wakeup_fd(-1)
    for number in REQUESTS:
        signal.signal(number, signal.SIG_DFL)
    if _forked_by_main_thread:
        end_with_parent()
