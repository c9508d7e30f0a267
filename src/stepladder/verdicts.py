"""Verdicts of a run: after each stage, at its end, and kept so that a done run need not be read again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stepladder import console
from stepladder.attempts.tasks import end_checkpoint
from stepladder.errors import EvidenceError
from stepladder.paths import RunDirectory
from stepladder.planning.plan import Plan, PlannedStage
from stepladder.records.events import Event
from stepladder.records.facts import collect
from stepladder.records.journal import Journal
from stepladder.verify.stage import check_stage
from stepladder.verify.verdict import StageVerdict, to_json
from stepladder_worker import manifest
from stepladder_worker.contract import ContractError, digest, read_sealed, write_sealed


def require_evidence(directory: RunDirectory, stage: PlannedStage, journal: Journal | None) -> None:
    """Check one finished stage without reading tensors. Raises EvidenceError; a verdict for a journal is written."""
    verdict = check_stage(collect(directory, [stage], deep=False)[0])
    if journal is not None:
        document = verdict.to_dict()
        journal.append(Event.STAGE_VERIFIED, stage=document.pop("name"), **document)
    if not verdict.ok:
        raise evidence_error(directory, [verdict])


def conclude(directory: RunDirectory, plan: Plan, chosen: Sequence[PlannedStage], trained: bool) -> list[StageVerdict]:
    """Read every chosen stage's checkpoint back, unless that was done for these very checkpoints."""
    if not trained:
        console.note(f"{plan.name}: {', '.join(stage.name for stage in chosen)} done already, nothing to run")
        recorded = _recorded(directory, plan, chosen)
        if recorded is not None:
            return recorded
    verdicts = verify_run(directory, plan, chosen)
    if not all(verdict.ok for verdict in verdicts):
        raise evidence_error(directory, verdicts)
    return verdicts


def verify_run(directory: RunDirectory, plan: Plan, chosen: Sequence[PlannedStage]) -> list[StageVerdict]:
    """Check stages, reading their checkpoints back; the verdict on a whole run is kept where it can be written."""
    verdicts = [check_stage(facts) for facts in collect(directory, chosen, deep=True)]
    if len(chosen) == len(plan.stages):
        try:
            write_sealed(directory.verification, {**to_json(verdicts), "about": _about(directory, plan)})
        except OSError as error:
            console.note(f"the verdict is not kept: {error}")
    return verdicts


def evidence_error(directory: RunDirectory, verdicts: list[StageVerdict]) -> EvidenceError:
    """Names every failed check of every stage with its figure."""
    lines = [f"stage {v.name}: {check.name}: {check.detail}" for v in verdicts for check in v.failed]
    hint = f"`stepladder verify {directory.root}` shows every check; --fresh --stage NAME trains a stage again"
    return EvidenceError("the evidence does not hold\n" + "\n".join(lines), hint=hint)


def _recorded(directory: RunDirectory, plan: Plan, chosen: Sequence[PlannedStage]) -> list[StageVerdict] | None:
    try:
        recorded = read_sealed(directory.verification)
        if not recorded["ok"] or recorded["about"] != _about(directory, plan):
            return None
        names = {stage.name for stage in chosen}
        return [StageVerdict.from_dict(stage) for stage in recorded["stages"] if stage["name"] in names]
    except (ContractError, KeyError, TypeError):
        return None


def _about(directory: RunDirectory, plan: Plan) -> dict[str, str]:
    """Digests of the plan, of every end checkpoint's manifest and of every result."""
    ends = [end_checkpoint(stage) / manifest.NAME for stage in plan.stages]
    results = sorted((directory.root / "attempts").glob("*/*/result.json"))
    return {str(Path(path)): digest(path) for path in (directory.plan, *ends, *results) if path.is_file()}
