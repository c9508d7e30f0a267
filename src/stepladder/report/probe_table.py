"""What a probe found, for a terminal and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from stepladder.probe import rows
from stepladder.probe.derived import FIRST_STEPS, SECOND_STEPS
from stepladder.probe.outcome import Outcome
from stepladder.probe.rows import Answer

VERSION = 1


def report(outcome: Outcome) -> RenderableType:
    """The whole answer of `stepladder probe`: what was run, the table, why a chain did not come to its end."""
    changes = ", ".join(map(str, outcome.changes)) or "no argument"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("", "by itself", "with Stepladder"):
        table.add_column(title, overflow="fold")
    for row in rows.rows(outcome):
        table.add_row(row.name, _cell(row.by_itself), _cell(row.with_stepladder))
    holds = "holds" if outcome.with_stepladder.holds else "DOES NOT HOLD"
    return Group(
        f"{outcome.curriculum}, stage {outcome.stage}: two stages of {FIRST_STEPS} and {SECOND_STEPS} steps; "
        f"the second changes {changes}",
        table,
        *rows.remarks(outcome),
        f"with Stepladder the chain {holds}",
    )


def to_json(outcome: Outcome) -> dict[str, Any]:
    """The document that `stepladder probe --json` prints."""
    return {
        "version": VERSION,
        "kind": "probe",
        "curriculum": outcome.curriculum,
        "stage": outcome.stage,
        "steps": [FIRST_STEPS, SECOND_STEPS],
        "changes": [asdict(change) for change in outcome.changes],
        "ok": outcome.with_stepladder.holds,
        "rows": [asdict(row) for row in rows.rows(outcome)],
        "remarks": rows.remarks(outcome),
    }


def _cell(answer: Answer) -> str:
    return f"{answer.word}: {answer.figure}"
