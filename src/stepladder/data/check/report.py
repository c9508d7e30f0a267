"""A check for the terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from stepladder.data.check.finding import ERROR, KINDS, WARNING, Finding, severity_of
from stepladder.data.check.selections import Standing
from stepladder.data.check.tokens import Tokens
from stepladder.data.printable import printable

VERSION = 1

#: Findings of a kind that the terminal shows.
SHOWN = 5


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        curriculum: the file.
        skip: bad samples are left out, as `on_bad_sample` says.
        stages: each in figures.
        tokens: of the stages whose samples were measured.
        counts: findings by kind, all of them.
        findings: the first of each kind and dataset.
        checked: (records read, records whose pixels were decoded).
        notes: what was not checked, and why.
    """

    curriculum: str
    skip: bool
    stages: Sequence[Standing]
    tokens: Sequence[Tokens]
    counts: dict[str, int]
    findings: Sequence[Finding]
    checked: tuple[int, int]
    notes: Sequence[str]

    def total(self, severity: str) -> int:
        """Findings of a severity."""
        return sum(count for kind, count in self.counts.items() if severity_of(kind, self.skip) == severity)

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings do not count."""
        return self.total(ERROR) == 0


def to_json(report: Report) -> dict[str, Any]:
    """The document that `stepladder data check --json` prints."""
    return {
        "version": VERSION,
        "kind": "data check",
        "curriculum": report.curriculum,
        "ok": report.ok,
        "records": report.checked[0],
        "decoded": report.checked[1],
        "counts": {kind: report.counts[kind] for kind in KINDS if kind in report.counts},
        "stages": [{**asdict(stage), "epochs": stage.epochs} for stage in report.stages],
        "tokens": [asdict(measured) for measured in report.tokens],
        "findings": [asdict(finding) for finding in report.findings],
        "notes": list(report.notes),
    }


def report(found: Report) -> RenderableType:
    """The whole answer: the stages, findings with the worst first, a count of each kind."""
    parts: list[RenderableType] = [_stages(found)]
    for severity in (ERROR, WARNING):
        for kind in (name for name in KINDS if name in found.counts and severity_of(name, found.skip) == severity):
            parts.append(_of_kind(found, kind))
    parts += [f"note: {note}" for note in found.notes]
    errors, warnings = _plural(found.total(ERROR), "error"), _plural(found.total(WARNING), "warning")
    records, decoded = found.checked
    parts.append(f"{errors}, {warnings} in {_plural(records, 'record')}; the images of {decoded:,} were decoded")
    return Group(*parts)


def _stages(found: Report) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("stage", overflow="fold")
    table.add_column("mixture", overflow="fold")
    for title in ("samples", "epochs", "left out" if found.skip else "bad", "tokens", "padding"):
        table.add_column(title, justify="right")
    tokens = {measured.stage: measured for measured in found.tokens}
    for stage in found.stages:
        measured = tokens.get(stage.stage)
        table.add_row(
            stage.stage,
            stage.mixture,
            f"{stage.samples:,}",
            f"{stage.epochs:.2f}" if stage.samples else "-",
            f"{stage.left_out:,}",
            f"{measured.shortest} to {measured.longest}" if measured else "-",
            " / ".join(f"{share:.0%}" for share in measured.padding) if measured else "-",
        )
    table.caption = "padding: its share of a batch, in the stage's order / with length_window"
    table.caption_justify, table.caption_style = "left", ""
    return table


def _of_kind(found: Report, kind: str) -> RenderableType:
    findings = [finding for finding in found.findings if finding.kind == kind]
    count, shown = found.counts[kind], findings[:SHOWN]
    lines = [f"{severity_of(kind, found.skip)}: {count:,} {KINDS[kind].title} ({kind})", *map(_line, shown)]
    if count > len(shown):
        lines.append(f"  ... and {count - len(shown):,} more")
    return Text("\n".join(map(printable, lines)))


def _line(finding: Finding) -> str:
    whose = f"sample {finding.id}: " if finding.id is not None else ""
    used = f" [{', '.join(finding.stages)}]" if finding.stages else " [evaluation]"
    return f"  {finding.where}: {whose}found {finding.found}, expected {finding.expected}{used}"


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
