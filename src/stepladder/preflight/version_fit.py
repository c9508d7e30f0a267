"""Whether the transformers of a stage's interpreter can go on from what another version wrote.

A Trainer refuses a `trainer_state.json` with a key that it does not know (`TypeError`), minutes after the start; here
it is said by name before anything starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from stepladder.curriculum.hf_args import release_of
from stepladder.curriculum.yaml_source import Finding
from stepladder.planning.plan import Plan, PlannedStage
from stepladder_worker import manifest
from stepladder_worker.contract import ContractError, read_json

#: The first release whose Trainer keeps the state of its callbacks, which the hooks reset at a boundary.
OLDEST = (4, 41)
#: Keys that `trainer_state.json` gained since then, and the release that brought them.
_KEYS_SINCE: Mapping[str, tuple[int, int]] = {"best_global_step": (4, 50)}


def findings(plan: Plan, kept: Sequence[PlannedStage]) -> Iterator[Finding]:
    """Every stage whose transformers is too old for Stepladder, or for what it starts from.

    `kept` are the stages whose directories are not set aside: their checkpoints are looked at.
    """
    before: PlannedStage | None = None
    for stage in plan.stages:
        have = release_of(stage.transformers)
        if have is not None:
            yield from _too_old(stage, have)
            yield from _planned(before, stage, have)
            yield from _found(stage, have, [part for part in (before, stage) if part is not None and part in kept])
        before = stage


def _too_old(stage: PlannedStage, have: tuple[int, int]) -> Iterator[Finding]:
    if have < OLDEST:
        text = f"stage `{stage.name}`: {stage.python} has transformers {stage.transformers}, expected {_text(OLDEST)}"
        hint = "older Trainers write no checkpoint at the end and keep no state of callbacks; install a newer one there"
        yield Finding(("stages", stage.index - 1), f"{text} or newer", hint)


def _planned(before: PlannedStage | None, stage: PlannedStage, have: tuple[int, int]) -> Iterator[Finding]:
    wrote = None if before is None else release_of(before.transformers)
    if before is None or wrote is None:
        return
    unknown = [key for key, since in _KEYS_SINCE.items() if have < since <= wrote]
    if unknown or wrote[0] > have[0]:
        why = f"whose `{unknown[0]}` it does not know" if unknown else "a later series"
        text = (
            f"stage `{stage.name}` has transformers {stage.transformers} and starts from the checkpoint of "
            f"{before.transformers}, {why}, expected {before.transformers} or newer"
        )
        yield Finding(("stages", stage.index - 1), text, "give it the `python` of the stage before, or a newer one")


def _found(stage: PlannedStage, have: tuple[int, int], parts: Sequence[PlannedStage]) -> Iterator[Finding]:
    """What lies there already, from an interpreter that has been changed since."""
    for part in parts:
        for _, checkpoint in sorted(manifest.checkpoints(Path(part.output_dir)), reverse=True)[:1]:
            unknown = [key for key in _state_keys(checkpoint) if have < _KEYS_SINCE.get(key, OLDEST)]
            if unknown:
                text = (
                    f"{checkpoint} was written by transformers {_text(_KEYS_SINCE[unknown[0]])} or newer: stage "
                    f"`{stage.name}` has {stage.transformers}, which does not know its `{unknown[0]}`"
                )
                hint = f"use a newer transformers, or set its stage aside with `--fresh --stage {part.name}`"
                yield Finding(("stages", stage.index - 1), f"{text}, expected as new a version", hint)


def _state_keys(checkpoint: Path) -> list[str]:
    try:
        return list(read_json(checkpoint / "trainer_state.json"))
    except ContractError:
        return []


def _text(release: tuple[int, int]) -> str:
    return f"{release[0]}.{release[1]}"
