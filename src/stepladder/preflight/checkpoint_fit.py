"""Whether a checkpoint that is there is one to go on from: whole, of so many processes, of this model.

Reads no tensor: a safetensors file tells names and shapes in its header. Standard library only beside our own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from stepladder import paths, safetensors_header
from stepladder.curriculum.yaml_source import Finding
from stepladder.paths import RunDirectory
from stepladder.planning.plan import Plan, PlannedStage
from stepladder_worker import manifest
from stepladder_worker.contract import ContractError, read_json

#: What a checkpoint and the model it began as have in common, whatever a script does to head and vocabulary.
_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
#: What holds an optimizer's state: single process and DDP, FSDP, DeepSpeed.
_OPTIMIZER_STATE = ("optimizer.pt", "optimizer.bin", "optimizer_0", "global_step*")


def findings(plan: Plan, kept: Sequence[PlannedStage]) -> Iterator[Finding]:
    """Everything wrong with the checkpoints that training would go on from now.

    `kept` are the first stages, those whose directories are not set aside. What a later stage has gone on from is left
    alone: whether it still is what it was is a matter of `verify`.
    """
    for stage, after in zip(kept, [*plan.stages[1:], None], strict=False):
        found = _newest(stage)
        if after is not None and after in kept and _newest(after) is not None:
            continue
        if found is not None:
            ended = found == paths.checkpoint(stage.output_dir, stage.end_step)
            user = after if ended and after is not None else stage
            yield from _misfits(found, stage, user, Path(plan.stages[0].model))
        elif after is not None and after.handover.optimizer == "keep" and not _trained_here(plan, stage):
            yield from _without_optimizer(paths.checkpoint(stage.output_dir, stage.end_step), after)


def _trained_here(plan: Plan, stage: PlannedStage) -> bool:
    """Whether this run has launched a stage: a checkpoint of it without a manifest is a save that was cut short, which
    `run` sets aside and makes anew."""
    return RunDirectory(Path(plan.output_dir)).attempts(stage.index, stage.name).is_dir()


def _newest(stage: PlannedStage) -> Path | None:
    """The checkpoint of a stage's directory that training would go on from; None where there is none.

    A directory without a manifest is a save that was cut short: nothing goes on from it. Within a stage nothing goes
    on from a damaged one either, since the one before it will do; the end of a stage has no such substitute.
    """
    found = [(step, path) for step, path in manifest.checkpoints(Path(stage.output_dir)) if step <= stage.end_step]
    for step, path in sorted(found, reverse=True):
        if (path / manifest.NAME).exists() and (step == stage.end_step or not damage(path)):
            return path
    return None


def _misfits(checkpoint: Path, owner: PlannedStage, user: PlannedStage, model: Path) -> Iterator[Finding]:
    """What keeps the stage `user` from going on from a completed checkpoint of the stage `owner`.

    `model` is what the curriculum starts from: a directory, or the id of a model that is not looked at.
    """
    place = ("stages", owner.index - 1)
    aside = f"set its stage aside with `--fresh --stage {owner.name}`"
    damaged = damage(checkpoint)
    if damaged:
        text = f"{checkpoint} is damaged: {'; '.join(damaged)}, expected it as it was written"
        yield Finding(place, text, f"put it back as it was, or {aside}")
        return
    wrote, processes = manifest.read(checkpoint).world_size, user.batch.processes
    if user.engine == "deepspeed" and not user.hook and wrote != processes:
        text = f"{checkpoint} was written by {wrote} processes, stage `{user.name}` has {processes}, expected {wrote}"
        yield Finding(place, text, "without the hooks DeepSpeed cannot share its state out anew; say `hook: true`")
    other = _other_model(checkpoint, model)
    if other:
        text = f"{checkpoint} is of another model: {other}, expected the same"
        yield Finding(place, text, f"name its model, or {aside}")


def _without_optimizer(checkpoint: Path, user: PlannedStage) -> Iterator[Finding]:
    """A checkpoint that no manifest tells of, as a plain script leaves it."""
    if checkpoint.is_dir() and not any(found for name in _OPTIMIZER_STATE for found in checkpoint.glob(name)):
        text = f"stage `{user.name}` starts from {checkpoint}, which has no optimizer state, expected optimizer.pt"
        hint = "train the stage before it again with complete checkpoints, or say `handover: {optimizer: reset}`"
        yield Finding(("stages", user.index - 1), text, hint)


def missing_weights(model: Path) -> Iterator[str]:
    """What is missing or cut short of the weights in a model's directory."""
    for index in sorted(model.glob("*.safetensors.index.json")):
        try:
            named = sorted(set(read_json(index)["weight_map"].values()))
            gone = [name for name in named if not (model / name).is_file()]
        except (ContractError, KeyError, AttributeError, TypeError, OSError) as error:
            yield f"{index.name} cannot be read: {error!r}"
            continue
        yield from (f"{name} is missing, {index.name} names it" for name in gone)
    for path in sorted(model.glob("*.safetensors")):
        trouble = safetensors_header.truncation(path)
        if trouble:
            yield trouble


def damage(checkpoint: Path) -> list[str]:
    """What of a completed checkpoint is missing, cut short or changed; empty for one as it was written."""
    found = manifest.problems(checkpoint, compared=manifest.SMALL)
    return found or _other_weights(checkpoint, manifest.read(checkpoint))


def _other_weights(checkpoint: Path, held: manifest.Manifest) -> list[str]:
    """Files whose tensors have other shapes than the parameters of the same names in the manifest."""
    shapes = {name: _shape(print_) for name, print_ in held.state["weights"].items()}
    for path in sorted(checkpoint.glob("*.safetensors")):
        try:
            header, _ = safetensors_header.read(path)
        except ValueError as error:
            return [str(error)]
        for name, entry in header.items():
            if shapes.get(name, entry["shape"]) != entry["shape"]:
                return [f"{path.name} is of another model: {name} is {entry['shape']}, {shapes[name]} was written"]
    return []


def _other_model(checkpoint: Path, model: Path) -> str | None:
    """A size that differs. Scripts give a model another head or vocabulary, but not other layers."""
    now, then = _config(model), _config(checkpoint)
    wrong = [name for name in _SIZES if name in now and name in then and now[name] != then[name]]
    return f"{wrong[0]} {then[wrong[0]]}, {model} has {now[wrong[0]]}" if wrong else None


def _config(folder: Path) -> dict[str, Any]:
    try:
        return read_json(folder / "config.json")
    except ContractError:
        return {}


def _shape(fingerprint: str) -> list[int]:
    """The shape in `float32[64, 32]:9f...`."""
    return [int(number) for number in re.findall(r"\d+", fingerprint.partition("[")[2].partition("]")[0])]
