"""The journal of a run: append-only events, one JSON object a line, never rewritten.

Every line carries the digest of the line before it (`after`), so a line that was changed, taken out or put in shows
at the next one, and a seal of its own, so that the last line shows it as well. That guards against slips and edits; who
makes the whole file anew can make it fit.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import IO, Any

from stepladder.errors import PlanError, Problem
from stepladder.records.events import Event
from stepladder_worker import own_files, redaction, seal
from stepladder_worker.contract import read_bytes


class Journal:
    """Appends events to a file and reads them back."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, event: Event, **facts: Any) -> None:
        """Write one event so that it lasts through a power loss. Times are seconds since the epoch."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._opened() as file:
            file.seek(0)
            written = file.read()
            entry = {
                "time": round(time.time(), 3),
                "event": str(event),
                **redaction.hide(facts),
                "after": _what_follows(written),
            }
            if written and not written.endswith(b"\n"):
                file.write(b"\n")  # a line cut short by a crash stays alone
            file.write(json.dumps(seal.sealed(entry)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[dict[str, Any]]:
        """Every readable event in order; a line cut short by a crash is passed over.

        Beside what was written an event has its `line` (from 1), and `follows`: whether the line before it is the one
        that it was written after. A last line that ends and yet is not as it was written is a `damaged` event that
        follows nothing. Raises PlanError when the journal is there and cannot be read.
        """
        events, before, number = [], b"", 0
        content = self._content()
        for number, line in enumerate(content.splitlines(), 1):
            event = _event(line)
            if event is not None:
                events.append({**event, "line": number, "follows": event["after"] == digest_of(before)})
            before = line
        if content.endswith(b"\n") and _event(before) is None:
            events.append({"event": Event.DAMAGED, "line": number, "follows": False})
        return events

    def _opened(self) -> IO[bytes]:
        try:
            return own_files.grown(self.path)
        except OSError as error:
            linked = self.path.is_symlink()
            text = "is a link, and is not followed" if linked else f"cannot be written: {error.strerror}"
            raise PlanError([Problem(str(self.path), text, "move away what stands there")]) from None

    def _content(self) -> bytes:
        try:
            return read_bytes(self.path)
        except FileNotFoundError:
            return b""
        except OSError as error:
            text = f"cannot be read ({error.strerror or error}), expected the run's journal"
            raise PlanError([Problem(str(self.path), text, "put the journal back as it was")]) from None


def digest_of(line: bytes) -> str:
    """What the event after this line carries: SHA-256, in hexadecimal; the empty line comes before the first."""
    return hashlib.sha256(line).hexdigest()


def _what_follows(written: bytes) -> str | None:
    """What the next event carries of the last line; None, which nothing fits, after one that was damaged."""
    if not written:
        return digest_of(b"")
    last = written.splitlines()[-1]
    cut_short = not written.endswith(b"\n")  # by a crash: that is no damage
    return digest_of(last) if cut_short or _event(last) is not None else None


def _event(line: bytes) -> dict[str, Any] | None:
    """The event of a line that is as it was written, without its seal; None for any other line."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or seal.broken(event):
        return None
    return {key: value for key, value in event.items() if key != seal.KEY}
