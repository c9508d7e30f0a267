"""What must hold for `data:`: names that are there, parts that make sense, scripts that are told of their data."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from stepladder.curriculum.levels import mapping, stages
from stepladder.curriculum.spec import BUILT_IN, DataSpec, Parts
from stepladder.curriculum.templates import fields_in
from stepladder.curriculum.yaml_source import DataPath, Finding, suggestion
from stepladder.data.mixture import Mixture, MixtureError, UnknownNameError, resolve

#: Fields that the arguments of a foreign script may hold.
DATA_FIELDS = ("data", "data_dir")

_PARTS: TypeAdapter[Any] = TypeAdapter(Parts)


def findings(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Everything wrong with the datasets, the mixtures and what the stages take of them."""
    spec = _spec(data)
    if spec is None:
        if data.get("data") is None:
            yield from _stages_without(data)
        return
    yield from _datasets(spec)
    broken = {}
    for name in spec.mixtures:
        if problems := list(_mixture(spec, spec.mixtures[name], ("data", "mixtures", name))):
            broken[name] = problems
    for problems in broken.values():
        yield from problems
    for name in spec.evaluation:
        if name not in spec.datasets:
            yield Finding(("data", "evaluation"), f"unknown dataset `{name}`{suggestion(name, spec.datasets)}")
    # What is wrong with a mixture is said once, not again by every stage that trains on it.
    sound = {name: parts for name, parts in spec.mixtures.items() if name not in broken}
    yield from _stages(data, spec.model_copy(update={"mixtures": sound}), set(broken))


def _spec(data: Mapping[str, Any]) -> DataSpec | None:
    """None also for one with mistakes in its shape, which the spec reports."""
    try:
        return DataSpec.model_validate(data.get("data"))
    except ValidationError:
        return None


def _stages_without(data: Mapping[str, Any]) -> Iterator[Finding]:
    for path, stage in stages(data):
        if stage.get("data") is not None:
            text = "`data` of a stage in a curriculum without `data:`, expected datasets to choose from"
            yield Finding((*path, "data"), text, "name them under `data: {datasets: {NAME: {path: FILE}}}`", True)


def _datasets(spec: DataSpec) -> Iterator[Finding]:
    for name in spec.datasets:
        here: DataPath = ("data", "datasets", name)
        if name in spec.mixtures:
            text = f"`{name}` is a dataset and a mixture, expected names that differ"
            yield Finding(("data", "mixtures", name), text, at_key=True)
        tiers = spec.datasets[name].tiers
        if tiers is not None and any(second <= first for first, second in itertools.pairwise(tiers.at)):
            yield Finding((*here, "tiers", "at"), f"`at`: found {tiers.at}, expected rising quantiles")


def _mixture(spec: DataSpec, written: Any, at: DataPath) -> Iterator[Finding]:
    """Problems of the parts as they are written, then of what they make together."""
    for index, part in enumerate(written):
        here = (*at, index)
        if part.fraction is not None and part.count is not None:
            yield Finding((*here, "count"), "found `fraction` and `count`, expected one of them", at_key=True)
        others = sorted(part.model_fields_set - {"dataset"})
        if others and part.dataset in spec.mixtures:
            text = f"`{others[0]}` of the mixture `{part.dataset}`, expected a dataset"
            yield Finding((*here, others[0]), text, "say it in the parts of that mixture", at_key=True)
            return
    try:
        mixture = resolve(spec, written, at)
    except UnknownNameError as error:
        yield Finding(at, f"{error}{suggestion(error.name, error.known)}")
    except MixtureError as error:
        yield Finding(at, str(error))
    else:
        yield from _weights(mixture, at)


def _weights(mixture: Mixture, at: DataPath) -> Iterator[Finding]:
    weights = [part.weight for part in mixture.parts]
    without = [part.source.name for part in mixture.parts if part.weight is None]
    if without and len(without) < len(weights):
        hint = "a weight is a share of the positions: give one to every part, or to none"
        yield Finding(at, f"part `{without[0]}` has no `weight` and others have, expected one for each", hint)
    elif not without and sum(filter(None, weights)) == 0:
        yield Finding(at, "the weights sum to zero, expected at least one above it")


def _stages(data: Mapping[str, Any], spec: DataSpec, broken: set[str]) -> Iterator[Finding]:
    before: Mixture | None = None
    last: Mapping[str, Any] = {}
    for path, stage in stages(data):
        written = _written(stage)
        if written is None:
            before = None
            continue
        here = (*path, "data")
        yield from _passed_on(data, stage, path)
        problems = list(_mixture(spec, written, here))
        mixture = None if problems else resolve(spec, written, here)
        if not any(name in problem.text for problem in problems for name in _quoted(broken)):
            yield from problems
        if mixture is not None and before is not None and _continues(data, stage) and mixture.key != before.key:
            text = f"`handover: {{data: continue}}` from {before.name} to {mixture.name}, expected the same mixture"
            yield Finding(here, text, "another mixture starts at its beginning: `handover: {data: fresh}`")
        windows = _windows(data, last, stage)
        if before is not None and _continues(data, stage) and windows[0] != windows[1]:
            text = (
                f"`handover: {{data: continue}}` from `length_window` {windows[0]} to {windows[1]}, expected the same"
            )
            yield Finding(
                (*path, "args", "length_window"), text, "another order starts at its beginning: `data: fresh`"
            )
        before, last = mixture, stage


def _quoted(names: set[str]) -> set[str]:
    return {f"`{name}`" for name in names}


def _windows(data: Mapping[str, Any], last: Mapping[str, Any], stage: Mapping[str, Any]) -> tuple[Any, Any]:
    """`length_window` of two stages: it makes another order of the same mixture."""
    common = mapping(data.get("args")).get("length_window") or 0
    before, now = (mapping(one.get("args")).get("length_window", common) or 0 for one in (last, stage))
    return before, now


def _written(stage: Mapping[str, Any]) -> Any:
    try:
        return None if stage.get("data") is None else _PARTS.validate_python(stage["data"])
    except ValidationError:
        return None


def _continues(data: Mapping[str, Any], stage: Mapping[str, Any]) -> bool:
    return {**mapping(data.get("handover")), **mapping(stage.get("handover"))}.get("data") == "continue"


def _passed_on(data: Mapping[str, Any], stage: Mapping[str, Any], path: DataPath) -> Iterator[Finding]:
    """The built-in trainer is told by itself; any other script must say where it wants to be."""
    args = {**mapping(data.get("args")), **mapping(stage.get("args"))}
    script = stage.get("script") or data.get("script") or BUILT_IN
    if script == BUILT_IN:
        if args.get("data") is not None:
            text = f"the stage has `data` and the argument `data` ({args['data']}), expected one of them"
            yield Finding((*path, "data"), text, at_key=True)
    elif not any(isinstance(value, str) and set(DATA_FIELDS) & set(fields_in(value)) for value in args.values()):
        text = f"the stage has `data`, of which no argument tells {os.fspath(script)}"
        hint = "say {data} (a LLaVA-style file) or {data_dir} (its folder) in an argument, as in `data_path: '{data}'`"
        yield Finding((*path, "data"), text, hint, at_key=True)
