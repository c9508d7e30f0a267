"""What `stepladder diagnose` has to say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stepladder.diagnosis.diagnose import Diagnosis


@dataclass(frozen=True)
class Answer:
    """What was looked at and what was found.

    Attributes:
        subject: in words.
        log: the log that was read; None where there is nothing to read.
        attempt: whose part of it counts; None: the last one's, or the whole log.
        diagnosis: None where nothing wrong was found.
        nothing: why there is nothing to diagnose; None where a log was read.
    """

    subject: str
    log: Path | None = None
    attempt: int | None = None
    diagnosis: Diagnosis | None = None
    nothing: str | None = None
