"""What a probe found, as records."""

from __future__ import annotations

from dataclasses import dataclass

from stepladder.errors import StageFailed
from stepladder.probe.derived import Change
from stepladder.records.facts import StageFacts
from stepladder.verify.verdict import StageVerdict


@dataclass(frozen=True)
class Chain:
    """What one of the two chains came to.

    Attributes:
        facts: of both stages, as `verify` collects them; a second stage that was not run has no attempts.
        verdicts: of both stages.
        failure: why a stage did not reach its end, None when both did.
        refused: a stage was ended because Stepladder saw the contract broken: the script itself did not fail.
    """

    facts: list[StageFacts]
    verdicts: list[StageVerdict]
    failure: StageFailed | None
    refused: bool

    @property
    def holds(self) -> bool:
        """Both stages reached their end and every check holds."""
        return self.failure is None and all(verdict.ok for verdict in self.verdicts)


@dataclass(frozen=True)
class Outcome:
    """What the probe of the stage `stage` found; `changes` is what its second tiny stage had otherwise."""

    curriculum: str
    stage: str
    changes: tuple[Change, ...]
    by_itself: Chain
    with_stepladder: Chain


def steps_made(facts: StageFacts) -> int | None:
    """Global step that a stage's last attempt came to; None when it did not train."""
    result = facts.attempts[-1].result if facts.attempts else None
    steps = result.evidence.get("steps") if result is not None else None
    last = steps.get("last") if isinstance(steps, dict) else None
    return last if isinstance(last, int) else None
