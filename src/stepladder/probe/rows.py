"""The verdicts of both chains as answers: does the script keep this clause of the contract, by itself and hooked?

The judge is `verify`: a row names one of its checks, and the answer is the check's, where the chain could show it.
"""

from __future__ import annotations

from dataclasses import dataclass

from stepladder.probe.outcome import Chain, Outcome, steps_made
from stepladder.records.facts import StageFacts
from stepladder.verify import on_disk
from stepladder.verify.verdict import Check

YES, NO, NOT_SEEN = "yes", "no", "not seen"

#: What a check says of a script, in the order in which people read it. A check that is not here is shown if it fails.
LABELS = {
    "checkpoint": "complete checkpoint at the end",
    "steps_trained": "goes on at the next step",
    "weights": "resumes weights",
    "optimizer": "resumes optimizer",
    "random_state": "resumes random state",
    "learning_rate": "honours learning rate",
    "hyper_parameters": "honours weight decay and the like",
    "batches": "honours batch size, accumulation",
    "data_position": "starts fresh data at sample 0",
    "best_metric": "drops the old best metric",
    "finite": "finite losses",
}
_BATCH = {"per_device_train_batch_size", "gradient_accumulation_steps"}


@dataclass(frozen=True)
class Answer:
    """`yes`, `no` or `not seen`, and the figure or the reason."""

    word: str
    figure: str


@dataclass(frozen=True)
class Row:
    """One clause of the contract, and how the script keeps it by itself and with Stepladder."""

    name: str
    by_itself: Answer
    with_stepladder: Answer


def rows(outcome: Outcome) -> list[Row]:
    """The answers of a probe, one row a clause."""
    chains = outcome.by_itself, outcome.with_stepladder
    changed = {change.name for change in outcome.changes}
    failed = {check.name for chain in chains for verdict in chain.verdicts for check in verdict.failed}
    found = [Row("ends at max_steps", *map(_ends, chains))]
    for name in [*LABELS, *sorted(failed - {*LABELS, "finished"})]:
        found.append(Row(LABELS.get(name, name), *(_answer(chain, name, changed) for chain in chains)))
    return found


def remarks(outcome: Outcome) -> list[str]:
    """Why a chain did not come to its end, where it did not."""
    found = []
    for who, chain in (("by itself", outcome.by_itself), ("with Stepladder", outcome.with_stepladder)):
        first, second = chain.facts
        if chain.failure is None:
            continue
        if steps_made(first) == first.stage.end_step and not second.attempts:
            found.append(
                f"{who}: the first stage left no complete checkpoint at its end, so nothing can continue from it"
            )
        else:
            found.append(f"{who}: {chain.failure.message.splitlines()[0]}")
    return found


def _ends(chain: Chain) -> Answer:
    """Judged by the steps that were made, also where no checkpoint tells of them."""
    tried = [facts for facts in chain.facts if facts.attempts]
    for facts in tried:
        made = steps_made(facts)
        if made != facts.stage.end_step:
            at = "no step" if made is None else f"step {made}"
            return Answer(NO, f"{facts.stage.name} stage: {at} of {facts.stage.end_step}")
    return Answer(YES, ", ".join(f"{steps_made(facts)} of {facts.stage.end_step}" for facts in tried))


def _answer(chain: Chain, name: str, changed: set[str]) -> Answer:
    first, second = (_check(chain, index, name) for index in (0, 1))
    if first is not None and not first.ok:
        return Answer(NO, f"first stage: {first.detail}")
    if second is None:
        return Answer(NOT_SEEN, "second stage failed" if chain.facts[1].attempts else "no second stage")
    if not second.ok:
        return Answer(NO, second.detail)
    unseen = _unseen(name, chain.facts, changed)
    return Answer(NOT_SEEN, unseen) if unseen else Answer(YES, second.detail)


def _check(chain: Chain, index: int, name: str) -> Check | None:
    facts = chain.facts[index]
    found = next((check for check in chain.verdicts[index].checks if check.name == name), None)
    if found is None and name == "checkpoint" and steps_made(facts) == facts.stage.end_step:
        # Without an end checkpoint `verify` stops at `finished`; here the missing one is an answer by itself.
        return on_disk.checkpoint(facts)
    return found


def _unseen(name: str, facts: list[StageFacts], changed: set[str]) -> str | None:
    """Why a check that holds shows nothing here, None where it does."""
    before, after = (found.segments[-1].evidence for found in facts)
    reasons = {
        "learning_rate": None if facts[1].stage.curve else "schedule: script, the curve is the script's own",
        "hyper_parameters": None if "weight_decay" in changed else "weight_decay was not changed",
        "batches": None if _BATCH & changed else "neither was changed",
        "data_position": None if after["data"]["batches"] else "an iterable data set does not tell",
        "best_metric": None if before["best_metric"]["end"] is not None else "the first stage measured none",
    }
    return reasons.get(name)
