"""Faults from outside: whom they hit, and when."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from pathlib import Path

import psutil

from cases import Case, Outside
from stepladder_worker import manifest


class Strike:
    """Waits for its sign and its delay, then sends its signal, once."""

    def __init__(self, case: Case, outside: Outside, run: Path) -> None:
        self.outside, self.run = outside, run
        self.stage, self.step = case.stage, case.step
        self.sent = False
        self._seen_at: float | None = None

    def look(self, engine: int) -> None:
        """Called often while the engine runs."""
        if self.sent:
            return
        now = time.monotonic()
        if self._seen_at is None and self._is_there():
            self._seen_at = now
        if self._seen_at is not None and now - self._seen_at >= self.outside.delay:
            self.sent = self._send(engine)

    def _is_there(self) -> bool:
        attempts = next(iter(self.run.glob(f"attempts/*-{self.stage}")), Path())
        if self.outside.sign == "start":
            return (attempts / "1/task.json").exists()
        if self.outside.sign in ("save", "end"):
            inside = f"/{manifest.NAME}" if self.outside.sign == "end" else ""
            return any(self.run.glob(f"*-{self.stage}/checkpoint-{self.step}{inside}"))
        try:
            return int(json.loads((attempts / "1/heartbeat.json").read_text())["step"]) >= self.step
        except (OSError, ValueError, KeyError):
            return False

    def _send(self, engine: int) -> bool:
        """To all of them as one: they are stopped first, so that none sees another's end."""
        targets = victims(engine, self.outside.target)
        for process in targets if len(targets) > 1 else []:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        for process in targets:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(getattr(signal, self.outside.number))
        return bool(targets)


def victims(engine: int, target: str) -> list[psutil.Process]:
    """The processes of an engine that are meant by a target of Outside; empty while they are not there yet."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(engine)
        if target == "engine":
            return [root]
        all_of_them = root.children(recursive=True)
        launchers = [process for process in root.children() if "torch.distributed.run" in process.cmdline()]
        if target == "everything":
            return [root, *all_of_them] if launchers else []
        if target == "launcher":
            return launchers
        ranks = [child for launcher in launchers for child in launcher.children() if _is_rank(child)]
        return ranks if target == "ranks" else ranks[-1:]
    return []


def _is_rank(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return "RANK" in process.environ()
    return False
