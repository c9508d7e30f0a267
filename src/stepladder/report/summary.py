"""What a run came to, for a terminal: steps, verdicts and losses of every stage, failed checks, task metrics."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from stepladder.attempts import ladder
from stepladder.records.facts import StageFacts
from stepladder.records.status import StageStatus
from stepladder.verify.verdict import Check, StageVerdict

_LARGEST = 10**300


def summary(verdicts: list[StageVerdict], losses: list[tuple[float | None, float | None]]) -> RenderableType:
    """One row a stage: cumulative step against the plan, loss at both ends, checks that hold."""
    table = Table(box=box.SIMPLE_HEAD, title="stages", title_justify="left")
    for column in ("stage", "step", "planned", "loss at start", "loss at end", "checks"):
        table.add_column(column, justify="left" if column in ("stage", "checks") else "right")
    for verdict, (first, last) in zip(verdicts, losses, strict=True):
        held = sum(check.ok for check in verdict.checks)
        word = "ok" if verdict.ok else "FAILED"
        origin = "" if verdict.inherited_from is None else f", inherited from {verdict.inherited_from}"
        step = "-" if verdict.global_step is None else str(verdict.global_step)
        cells = [verdict.name, step, str(verdict.expected_step), _number(first), _number(last)]
        table.add_row(*cells, f"{word}, {held} of {len(verdict.checks)}{origin}")
    return table


def checks(verdicts: list[StageVerdict]) -> RenderableType:
    """Every check of every stage: one row a check, one column a stage."""
    table = Table(box=box.SIMPLE_HEAD, title="checks", title_justify="left")
    table.add_column("check")
    for verdict in verdicts:
        table.add_column(verdict.name)
    names = list(dict.fromkeys(check.name for verdict in verdicts for check in verdict.checks))
    for name in names:
        found = [next((c for c in verdict.checks if c.name == name), None) for verdict in verdicts]
        table.add_row(name, *(_word(check) for check in found))
    return table


def details(verdicts: list[StageVerdict]) -> RenderableType:
    """Every check of every stage with its figure."""
    tables = []
    for verdict in verdicts:
        reached = "-" if verdict.global_step is None else verdict.global_step
        title = f"{verdict.name}: step {reached} of {verdict.expected_step}"
        title += "" if verdict.inherited_from is None else f", inherited from {verdict.inherited_from}"
        table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", show_header=False)
        for check in verdict.checks:
            table.add_row(_word(check), check.name, check.detail)
        tables.append(table)
    return Group(*tables)


def metrics(evaluations: list[tuple[str, dict[str, Any]]]) -> RenderableType | None:
    """Task metrics of every evaluated stage beside the baseline of the last; None without any."""
    columns = {name: _figures(found) for name, found in evaluations if isinstance(found.get("metrics"), dict)}
    if not columns:
        return None
    last = list(columns)[-1]
    baseline = dict(evaluations)[last].get("baseline")
    shown = [key for key, value in columns[last].items() if isinstance(value, (int, float)) or value is None]
    if isinstance(baseline, dict):
        columns["best baseline"] = _figures({"metrics": baseline, "tiers": baseline.get("tiers")})
    table = Table(box=box.SIMPLE_HEAD, title="held-out samples", title_justify="left")
    table.add_column("metric")
    for name in columns:
        table.add_column(name, justify="right")
    for key in shown:
        table.add_row(key, *(_number(figures.get(key)) for figures in columns.values()))
    return table


def _figures(found: dict[str, Any]) -> dict[str, Any]:
    """The metrics of a result, and of the built-in evaluation the share of samples answered right by tier."""
    tiers = found.get("tiers")
    right = {
        f"right, of {_number(tier.get('n'))} {name}": tier.get("accuracy")
        for name, tier in (tiers.items() if isinstance(tiers, dict) else ())
        if isinstance(tier, dict)
    }
    return {**found["metrics"], **right}


def status(stages: list[StageStatus]) -> RenderableType:
    """Where every stage stands."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("#", "stage", "state", "step", "of", "attempts", "loss"):
        table.add_column(column, justify="left" if column in ("stage", "state") else "right")
    for s in stages:
        step = "-" if s.state == "waiting" else str(s.step)
        state = s.state if s.inherited_from is None else f"{s.state}, inherited from {s.inherited_from}"
        table.add_row(str(s.index), s.name, state, step, str(s.end_step), str(s.attempts), _number(s.loss))
    return Group(table, *(line for s in stages for line in s.stepped_down))


def stepped_down(facts: list[StageFacts]) -> list[str]:
    """Every step down an out-of-memory ladder, one line each."""
    return [ladder.told(event) for stage in facts for event in stage.steps_down]


def losses(facts: list[StageFacts]) -> list[tuple[float | None, float | None]]:
    """Loss at the first and at the last steps of each stage."""
    ends = []
    for stage in facts:
        first = (stage.segments[0].evidence["loss"] or {}) if stage.segments else {}
        last = (stage.segments[-1].evidence["loss"] or {}) if stage.segments else {}
        ends.append((first.get("first"), last.get("last")))
    return ends


def _word(check: Check | None) -> str:
    return "-" if check is None else "ok" if check.ok else "FAILED"


def _number(value: Any) -> str:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return "-"
    # What a command printed may be a whole number that no float holds.
    return f"{value:.4g}" if abs(value) < _LARGEST or isinstance(value, float) else "-"
