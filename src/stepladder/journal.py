"""The journal of a run: append-only events, one JSON object a line, never rewritten."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any


class Journal:
    """Appends events to a file and reads them back."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, event: str, **facts: Any) -> None:
        """Write one event so that it lasts through a power loss. Times are seconds since the epoch."""
        line = json.dumps({"time": round(time.time(), 3), "event": event, **facts}) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            if not _ends_with_newline(self.path):
                file.write(b"\n")  # a line cut short by a crash stays alone
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[dict[str, Any]]:
        """Every readable event in order; a line cut short by a crash is passed over."""
        if not self.path.is_file():
            return []
        events = []
        for line in self.path.read_text("utf-8", errors="replace").splitlines():
            try:
                event = json.loads(line)
            except (json.JSONDecodeError, RecursionError):
                continue
            if isinstance(event, dict) and "event" in event:
                events.append(event)
        return events


def _ends_with_newline(path: Path) -> bool:
    if path.stat().st_size == 0:
        return True
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
