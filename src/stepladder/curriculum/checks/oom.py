"""What must hold for `on_oom`: rungs that change memory alone, take something away, and keep the samples of a step."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stepladder.curriculum import hf_args, hf_names, rungs
from stepladder.curriculum.checks.args import argument
from stepladder.curriculum.levels import mapping, stages, whole
from stepladder.curriculum.yaml_source import DataPath, Finding

_BATCH, _ACCUMULATION = "per_device_train_batch_size", "gradient_accumulation_steps"
_FREE = "a rung may change what memory is needed for, not what is learned: docs/oom.md lists the arguments"
_OWN_LADDER = "give the stage an `on_oom` of its own, or null for none"


def findings(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Everything wrong with the ladders of the curriculum and of its stages."""
    for path, holder in [((), data), *stages(data)]:
        yield from _ladder(_rungs((*path, "on_oom"), holder.get("on_oom")))
    climbing = [_Stage.of(data, path, stage) for path, stage in stages(data)]
    told = set()
    for stage in climbing:
        for finding in stage.findings():
            # Stages that share a ladder find the same fault in it.
            fault = finding.path, finding.text.replace(f"`{stage.name}`", "")
            if fault not in told:
                yield finding
            told.add(fault)
    yield from _idle(climbing)


def _rungs(here: DataPath, ladder: Any) -> list[tuple[DataPath, dict[str, Any]]]:
    written = ladder if isinstance(ladder, list) else []
    return [((*here, index), rung) for index, rung in enumerate(written) if isinstance(rung, dict)]


def _ladder(ladder: list[tuple[DataPath, dict[str, Any]]]) -> Iterator[Finding]:
    """What is wrong whatever the stage."""
    for index, (path, rung) in enumerate(ladder):
        if not rung:
            yield Finding(path, "an empty rung of `on_oom`, expected arguments to change", "take the rung away")
        elif any(rung == before for _, before in ladder[:index]):
            yield Finding(path, "the same rung of `on_oom` again, expected rungs that differ", "take the rung away")
        for name, value in rung.items():
            yield from _argument((*path, name), name, value)


def _argument(path: DataPath, name: str, value: Any) -> Iterator[Finding]:
    # What `x2` comes to is judged where the value that holds is known.
    wrong = list(argument(path, name, 1 if rungs.multiplies(value) else value))
    yield from wrong
    if not wrong and not rungs.is_allowed(name):
        yield Finding(path, f"`{name}` in a rung of `on_oom`, expected arguments that cost memory", _FREE, at_key=True)


def _idle(climbing: Sequence[_Stage]) -> Iterator[Finding]:
    """A rung that stages share may change nothing of some of them, but not of all."""
    effects: dict[DataPath, bool] = {}
    for stage in climbing:
        args = stage.args
        for path, rung in stage.ladder:
            try:
                lower = rungs.after(args, rung)
            except ValueError:
                break  # told by the stage
            effects[path] = effects.get(path, not rung) or bool(rungs.changed(args, lower))
            args = lower
    for path, effect in effects.items():
        if not effect:
            yield Finding(path, "the rung changes nothing, expected another value of an argument", "take the rung away")


@dataclass(frozen=True)
class _Stage:
    """A stage that may go down a ladder.

    Attributes:
        name: of the stage.
        args: as stated for it.
        processes: that train it.
        here: where its ladder is written, in the stage or in the curriculum.
        ladder: its rungs, and where they are written.
    """

    name: Any
    args: Mapping[str, Any]
    processes: int
    here: DataPath
    ladder: list[tuple[DataPath, dict[str, Any]]]

    @classmethod
    def of(cls, data: Mapping[str, Any], path: DataPath, stage: Mapping[str, Any]) -> _Stage:
        own = "on_oom" in stage
        here: DataPath = (*path, "on_oom") if own else ("on_oom",)
        launcher = {**mapping(data.get("launcher")), **mapping(stage.get("launcher"))}
        return cls(
            name=stage.get("name", path[-1]),
            args=hf_args.merged(mapping(data.get("args")), mapping(stage.get("args"))),
            processes=math.prod(whole(launcher.get(name)) or 1 for name in ("nproc_per_node", "nnodes")),
            here=here,
            ladder=_rungs(here, (stage if own else data).get("on_oom")),
        )

    def findings(self) -> Iterator[Finding]:
        if self.ladder:
            yield from self._whole_ladder()
        args = self.args
        for path, rung in self.ladder:
            wrong = list(self._values(path, rung, args))
            yield from wrong
            if wrong:
                return  # what follows stands on this rung
            lower = rungs.after(args, rung)
            if {_BATCH, _ACCUMULATION} & {*rungs.changed(args, lower)}:
                yield from self._samples(path, rung, lower)
            yield from self._workers(path, lower)
            args = lower

    def _whole_ladder(self) -> Iterator[Finding]:
        """What of the stage's own arguments no rung of the batch can live with."""
        if hf_args.is_on(self.args.get("auto_find_batch_size")):
            text = f"`on_oom` and auto_find_batch_size in stage `{self.name}`, expected one of them"
            yield Finding(self.here, text, "auto_find_batch_size changes the samples of a step: take it away")
        smaller = any(_BATCH in rung for _, rung in self.ladder)
        if smaller and hf_args.is_on(self.args.get("dataloader_drop_last")):
            text = f"{_BATCH} in a rung, and dataloader_drop_last in stage `{self.name}`, expected one of them"
            hint = "with other micro-batches an epoch drops other samples: take dataloader_drop_last away"
            yield Finding(self.here, text, hint)

    def _values(self, path: DataPath, rung: Mapping[str, Any], args: Mapping[str, Any]) -> Iterator[Finding]:
        """Names that the stage knows, numbers that can be multiplied, and none that asks for more memory."""
        for name, written in rung.items():
            here = (*path, name)
            if meant := _meant(name, args):
                yield Finding(here, f"unknown argument `{name}`, did you mean `{meant}`?", at_key=True)
                continue
            try:
                value = rungs.value(args, name, written)
            except ValueError as error:
                yield Finding(here, f"{error}, in stage `{self.name}`", "write the number that is meant")
                continue
            before, now = hf_args.whole(rungs.held(args, name)), hf_args.whole(value)
            if name in rungs.COSTLY and before is not None and now is not None and now > before:
                text = f"`{name}`: found {now} after {before} in stage `{self.name}`, expected {before} or less"
                yield Finding(here, text, f"more of it needs more memory; {_OWN_LADDER}")
            if name in hf_args.ENGINES and not (value and args.get(name)):
                text = f"`{name}` comes or goes in a rung of stage `{self.name}`, expected the same engine on all rungs"
                yield Finding(here, text, "checkpoints of one engine cannot be read by another")
            if name == "fsdp_config" and _format(value) != _format(args.get(name)):
                text = f"state_dict_type {_format(value)} after {_format(args.get(name))}, expected one for all rungs"
                yield Finding(here, text, "a checkpoint of one kind cannot be loaded as the other")

    def _samples(self, path: DataPath, rung: Mapping[str, Any], lower: Mapping[str, Any]) -> Iterator[Finding]:
        """The samples of an optimizer step are the stage's on every rung."""
        planned, now = _of_step(self.args), _of_step(lower)
        if planned is None or now is None or math.prod(planned) == math.prod(now):
            return
        device, per_device = math.prod(planned), now[0]
        text = (
            f"stage `{self.name}` would take {self._product(now)} samples a step, expected {self._product(planned)} "
            "(samples a device x accumulation x processes)"
        )
        hint = f"`{_ACCUMULATION}: {device // per_device}` beside `{_BATCH}: {per_device}` keeps them"
        if device % per_device:
            fitting = ", ".join(str(number) for number in range(1, planned[0] + 1) if device % number == 0)
            hint = f"{_BATCH} must divide {device}: {fitting}"
        yield Finding((*path, _BATCH if _BATCH in rung else _ACCUMULATION), text, hint)

    def _product(self, of_step: tuple[int, int]) -> str:
        return f"{of_step[0]} x {of_step[1]} x {self.processes} = {math.prod(of_step) * self.processes}"

    def _workers(self, path: DataPath, args: Mapping[str, Any]) -> Iterator[Finding]:
        """Without data workers, what is said of them is refused by torch and transformers."""
        wrong = [name for name in ("dataloader_prefetch_factor",) if args.get(name) is not None]
        wrong += [name for name in ("dataloader_persistent_workers",) if hf_args.is_on(args.get(name))]
        if hf_args.whole(rungs.held(args, "dataloader_num_workers")) == 0 and wrong:
            text = f"no data workers on this rung of stage `{self.name}`, but {wrong[0]} is stated, expected neither"
            yield Finding(path, text, f"add `{wrong[0]}: null` to the rung")


def _meant(name: str, args: Mapping[str, Any]) -> str | None:
    """The argument of the script's own that a rung misspells: what a stage does not state, but nearly."""
    if name in args or name in hf_names.NAMES:
        return None
    own = [stated for stated in args if stated not in hf_names.NAMES]
    return next(iter(difflib.get_close_matches(name, own, n=1, cutoff=hf_names.LIKENESS)), None)


def _of_step(args: Mapping[str, Any]) -> tuple[int, int] | None:
    """(samples a device takes at once, accumulation); None where a number is none, which is told where it stands."""
    batch, accumulation = (hf_args.whole(rungs.held(args, name)) for name in (_BATCH, _ACCUMULATION))
    return (batch, accumulation) if batch and accumulation and batch > 0 and accumulation > 0 else None


def _format(config: Any) -> Any:
    return mapping(config).get("state_dict_type")
