"""A diagnosis for a terminal, and as JSON."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from stepladder.diagnosis.answer import Answer
from stepladder.diagnosis.diagnose import Diagnosis
from stepladder.diagnosis.log_lines import Place

VERSION = 1
_NO_SIGN = "the log has no sign of a cause that is known; it may have been killed, or the machine went down"


def report(answer: Answer) -> RenderableType:
    """Cause, the line that shows it, what followed, whether a retry helps, and a hint."""
    found = answer.diagnosis
    if answer.nothing is not None:
        return Text(f"{answer.subject}: {answer.nothing}")
    if found is None:
        place = "" if answer.subject.endswith(str(answer.log)) else f" in {answer.log}"
        return Text(f"{answer.subject}: nothing wrong was found{place}")
    hint = [("hint:", found.hint)] if found.hint else []
    return Group(Text(f"{answer.subject}:"), _Rows([*_rows(found, answer), *hint]))


class _Rows:
    """Labels and texts beside them; a text that is longer than the line goes on below its beginning."""

    def __init__(self, rows: list[tuple[str, str]]) -> None:
        self.rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for label, text in self.rows:
            first, further = f"{label:8}", " " * 8
            lines = textwrap.wrap(text, options.max_width - 8, break_on_hyphens=False)
            yield Text(first + f"\n{further}".join(lines))


def to_json(answer: Answer) -> dict[str, Any]:
    """The document that `stepladder diagnose --json` prints."""
    return {
        "version": VERSION,
        "subject": answer.subject,
        "log": None if answer.log is None else str(answer.log),
        "attempt": answer.attempt,
        "diagnosis": None if answer.diagnosis is None else asdict(answer.diagnosis),
    }


def _rows(found: Diagnosis, answer: Answer) -> list[tuple[str, str]]:
    rows = [("cause", f"{found.cause}: {found.sentence or _NO_SIGN}")]
    if found.where is not None:
        rows.append(("where", _address(found.where, answer)))
        rows.append(("", found.where.text))
        rows += [("", found.where.frame)] if found.where.frame else []
    rows += [("besides", text) for text in found.confirmed]
    if found.followed:
        count = found.followed_count
        lines = "one line that only follows" if count == 1 else f"{count} lines that only follow"
        rows.append(("then", f"{lines} from it, the first is {_address(found.followed[0], answer)}"))
        rows.append(("", found.followed[0].text))
    return [*rows, ("retry", _retry(found))]


def _address(place: Place, answer: Answer) -> str:
    rank = "" if place.rank is None else f" (rank {place.rank})"
    return f"{answer.log}:{place.line}{rank}" if place.line is not None else f"recorded by the worker{rank}"


def _retry(found: Diagnosis) -> str:
    if found.memory:
        return "helps with less memory: `on_oom` steps down" + (", or may help as it is" if found.retry else "")
    return "may help" if found.retry else "does not help before the cause is mended"
