"""The merged log of a run: every stage's full log in the order of the stages."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from stepladder import paths
from stepladder.editing import past
from stepladder.paths import RunDirectory
from stepladder.planning.plan import Plan
from stepladder.records.status import run_status
from stepladder_worker import redaction

#: Seconds between two looks at a log that is followed.
FOLLOW_SECONDS = 0.3
_CHUNK = 1 << 16


def show(run: RunDirectory, plan: Plan, only: str | None, follow: bool) -> None:
    """Copy the logs to stdout as they are, byte for byte but for secrets that are known here; with `follow`, go on
    until nothing runs any more."""
    for stage in plan.chosen(only):
        log = paths.stage_log(stage.output_dir, stage.name)
        for chunk in _without_secrets(_read(log, partial(_may_grow, run, plan, stage.name) if follow else bool)):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()


def _without_secrets(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes with `***` for every secret. What may be the beginning of one is held back until more comes."""
    secrets = [secret.encode() for secret in redaction.known()]
    held = b""
    for chunk in chunks:
        held += chunk
        for secret in secrets:
            held = held.replace(secret, redaction.HIDDEN.encode())
        begun = max((_begun(held, secret) for secret in secrets), default=0)
        yield held[: len(held) - begun]
        held = held[len(held) - begun :]
    yield held


def _begun(text: bytes, secret: bytes) -> int:
    """How many bytes at the end of `text` are the beginning of a secret."""
    return next((n for n in range(min(len(secret) - 1, len(text)), 0, -1) if text.endswith(secret[:n])), 0)


def _read(log: Path, growing: Callable[[], bool]) -> Iterator[bytes]:
    """Chunks of a file, also of one that does not exist yet, while `growing()` says there may be more."""
    position = 0
    while True:
        more = growing()
        if log.is_file():
            with log.open("rb") as file:
                file.seek(position)
                while chunk := file.read(_CHUNK):
                    position += len(chunk)
                    yield chunk
        if not more:
            return
        time.sleep(FOLLOW_SECONDS)


def _may_grow(run: RunDirectory, plan: Plan, name: str) -> bool:
    """Whether this stage runs, or another one does and this one comes later."""
    stages = run_status(run, plan)
    this = next(stage for stage in stages if stage.name == name)
    busy = any(stage.state == "running" for stage in stages) or past.is_held(run)
    return this.state == "running" or (this.state != "done" and busy)
