"""The verdict on a stage: every check, in the order in which people read them.

`facts.py` collects; these checks decide. A check never looks at exit codes, and never takes the right `global_step`
for a proof: a script that ignores the resume flag reaches it as well. Docs: docs/verification.md.
"""

from __future__ import annotations

from collections.abc import Callable

from stepladder.records.facts import StageFacts
from stepladder.verify import handed_over, in_force, inherited, on_disk, records, trainable, trained_on
from stepladder.verify.verdict import Check, StageVerdict

CHECKS: tuple[Callable[[StageFacts], Check], ...] = (
    records.evidence,
    records.global_step,
    records.steps_trained,
    on_disk.checkpoint,
    handed_over.weights,
    trainable.trainable,
    handed_over.optimizer,
    handed_over.random_state,
    in_force.learning_rate,
    in_force.hyper_parameters,
    trained_on.batches,
    trained_on.data_position,
    handed_over.best_metric,
    in_force.finite,
)

#: Of a stage that a fork has from another run. The evidence of its training stayed there.
INHERITED: tuple[Callable[[StageFacts], Check], ...] = (inherited.inherited, records.global_step, on_disk.checkpoint)


def check_stage(facts: StageFacts) -> StageVerdict:
    """Decide one stage. A stage without evidence fails by name, with the reason."""
    step = facts.on_disk.global_step if facts.on_disk is not None else None
    if facts.inherited is not None:
        decided = [_decided(check, facts) for check in INHERITED]
        return StageVerdict(facts.stage.name, step, facts.stage.end_step, decided, facts.inherited.run)
    checks = [records.finished(facts)]
    if facts.segments:
        checks += [_decided(check, facts) for check in CHECKS]
    return StageVerdict(facts.stage.name, step, facts.stage.end_step, checks)


def _decided(check: Callable[[StageFacts], Check], facts: StageFacts) -> Check:
    """A check that cannot read its record fails by name: whoever cut the record must not end the verdict."""
    try:
        return check(facts)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        return Check(check.__name__, False, f"the record is incomplete: {error!r}")
