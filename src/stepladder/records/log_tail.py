"""The end of a log, for a message that says why something failed."""

from __future__ import annotations

from pathlib import Path

from stepladder.records.log_file import HEADING

#: Last lines of a log that a failure shows.
TAIL_LINES = 20
_TAIL_BYTES = 256 * 1024
#: How torch.distributed.run begins to report a rank that failed.
_LAUNCHER_REPORT = "] failed (exitcode:"


def log_tail(log: Path) -> list[str]:
    """The last lines of a log that may say why: of a progress bar what it showed last, of an attempt before the last
    one nothing, and nothing of torchrun's own report at the end, since the script's words stand before it."""
    if not log.is_file():
        return []
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        text = file.read().decode("utf-8", errors="replace")
    lines = [line.rsplit("\r", 1)[-1] for line in text.splitlines() if line.strip()]
    begun = [index for index, line in enumerate(lines) if line.startswith(f"{HEADING}stage ")]
    lines = lines[begun[-1] if begun else 0 :]
    reports = [index for index, line in enumerate(lines) if _LAUNCHER_REPORT in line]
    return lines[: reports[-1] if reports else None][-TAIL_LINES:]
