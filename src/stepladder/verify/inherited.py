"""Check of a stage that a fork did not train: it is the one that the other run handed on, where its checks held."""

from __future__ import annotations

from dataclasses import asdict

from stepladder.records.facts import StageFacts
from stepladder.verify.verdict import Check


def inherited(facts: StageFacts) -> Check:
    """Lineage and journal tell of the same origin, and the last checkpoint is the one that was handed on."""
    entry = facts.inherited
    if entry is None:
        return Check("inherited", True, "trained by this run")
    if facts.journal_break is not None:
        text = f"the journal was edited: line {facts.journal_break} does not follow the one before"
        return Check("inherited", False, text)
    if facts.inherited_by_journal != asdict(entry):
        return Check("inherited", False, "run.json and the journal do not tell of the same origin")
    if facts.manifest_digest != entry.manifest:
        found = "no manifest" if facts.manifest_digest is None else f"a manifest {facts.manifest_digest[:8]}"
        text = f"its last checkpoint has {found}, run {entry.run} handed on {entry.manifest[:8]}"
        return Check("inherited", False, text)
    failed = [check["name"] for check in entry.verdict["checks"] if not check["ok"]]
    if failed:
        return Check("inherited", False, f"in run {entry.run} it failed {', '.join(failed)}")
    held = f"its {len(entry.verdict['checks'])} checks held there"
    return Check("inherited", True, f"from run {entry.run} ({entry.run_id[:8]}) in {entry.directory}: {held}")
