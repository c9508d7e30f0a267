"""The journal of a run: append-only events, one JSON object a line, never rewritten.

Every line carries the digest of the line before it (`after`), so a line that was changed, taken out or put in shows
at the next one. That guards against slips and edits; who makes the whole file anew can make it fit.
"""

from __future__ import annotations

import hashlib
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
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            file.seek(0)
            written = file.read()
            before = written.splitlines()[-1] if written else b""
            entry = {"time": round(time.time(), 3), "event": event, **facts, "after": digest_of(before)}
            if written and not written.endswith(b"\n"):
                file.write(b"\n")  # a line cut short by a crash stays alone
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[dict[str, Any]]:
        """Every readable event in order; a line cut short by a crash is passed over.

        Beside what was written an event has its `line` (from 1), and `follows`: whether the line before it is the one
        that it was written after.
        """
        events, before = [], b""
        for number, line in enumerate(self.path.read_bytes().splitlines() if self.path.is_file() else [], 1):
            event = _event(line)
            if event is not None:
                events.append({**event, "line": number, "follows": event.get("after") == digest_of(before)})
            before = line
        return events


def digest_of(line: bytes) -> str:
    """What the event after this line carries: SHA-256, in hexadecimal; the empty line comes before the first."""
    return hashlib.sha256(line).hexdigest()


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line.decode("utf-8", errors="replace"))
    except (json.JSONDecodeError, RecursionError):
        return None
    return event if isinstance(event, dict) and "event" in event else None
