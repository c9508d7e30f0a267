"""What the stages of a plan will write, and whether it fits where they write it.

Counted are checkpoints and models: logs and records are small. How many checkpoints a stage keeps follows
transformers (`DefaultFlowCallback` and `save_strategy`, `save_steps`, `save_total_limit` of TrainingArguments) and
`hooks/checkpoint.py` of the worker: one at the end always, older ones go after the newer one is complete, and the best
one stays. How large one is: `checkpoint_size.py`.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stepladder.curriculum import hf_args
from stepladder.errors import PlanError, Problem
from stepladder.planning.plan import Plan, PlannedStage
from stepladder.preflight import checkpoint_size
from stepladder.preflight.checkpoint_size import NotKnownError, Size, Span
from stepladder_worker import manifest

#: transformers' default of `save_steps`.
_SAVE_STEPS = 500
_UNITS = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
_HINT = "set a smaller `save_total_limit`, free some space, or give `output_dir` a place on a larger disk"
#: What of a stage decides how large its checkpoints are, with what its script and its engine are.
_SHAPING = ("deepspeed", "fsdp", "fsdp_config", "bf16", "fp16", "optim", "dtype", "torch_dtype", "model_init_kwargs")


@dataclass(frozen=True)
class Counts:
    """Checkpoints of a stage: how many stay, and how many there are at one time, at least and at most.

    A new one is written before an old one goes. `most` and `most_at_once` are None where no end is known.
    """

    least: int
    most: int | None
    least_at_once: int
    most_at_once: int | None


@dataclass(frozen=True)
class StageDisk:
    """What a stage writes.

    Attributes:
        size: of one checkpoint and of the model in it; None where it is not known.
        counts: how many checkpoints it keeps.
        why: what the size was worked out from, or why it is not known.
    """

    size: Size | None
    counts: Counts
    why: str

    @property
    def peak(self) -> Span:
        """Bytes at one time, at most: while a checkpoint is written, or at the end, when the model is written too."""
        if self.size is None:
            return Span(0, None)
        writing = self.size.checkpoint.times(self.counts.least_at_once, self.counts.most_at_once)
        ending = self.stays
        high = None if writing.high is None or ending.high is None else max(writing.high, ending.high)
        return Span(max(writing.low, ending.low), high)

    @property
    def stays(self) -> Span:
        """Bytes when it is done: its checkpoints, and its model where that cannot be stored once with the last one."""
        if self.size is None:
            return Span(0, None)
        return self.size.checkpoint.times(self.counts.least, self.counts.most) + Span(0, self.size.model.high)


def estimate(plan: Plan) -> tuple[StageDisk, ...]:
    """What every stage writes. Reads headers of the base model's weights and manifests of checkpoints, no tensor."""
    found = [_complete(stage) for stage in plan.stages]
    try:
        base: checkpoint_size.BaseModel | str = checkpoint_size.base_model(Path(plan.stages[0].model))
    except NotKnownError as error:
        base = str(error)
    return tuple(_stage(plan, stage, base, found) for stage in plan.stages)


def require_room(plan: Plan, todo: Sequence[PlannedStage]) -> None:
    """Raise PlanError where what the stages `todo`, in order, still have to write certainly does not fit.

    What they have written already counts as there.
    """
    needs = _needs(plan, todo)
    found = list(shortages(needs, _free(needs)))
    if found:
        raise PlanError(found)


def remarks(plan: Plan, todo: Sequence[PlannedStage]) -> Iterator[str]:
    """What may not fit, and what is not known, for people."""
    needs = _needs(plan, todo)
    yield from doubts(needs, _free(needs))
    names = [stage.name for stage in todo]
    unknown = [
        (stage.name, disk.why)
        for stage, disk in zip(plan.stages, estimate(plan), strict=True)
        if stage.name in names and disk.size is None
    ]
    if unknown:
        yield f"what {', '.join(name for name, _ in unknown)} will write is not known ({unknown[0][1]})"


@dataclass(frozen=True)
class Need:
    """What a stage still has to write, in bytes.

    Attributes:
        stage: its name.
        folder: where it writes.
        place: the nearest folder that exists; device: the file system of it.
        peak, stays: see StageDisk, without what is there already.
    """

    stage: str
    folder: str
    place: Path
    device: int
    peak: Span
    stays: Span

    @classmethod
    def of(cls, stage: PlannedStage, disk: StageDisk) -> Need:
        """Of a stage whose directory may hold some of it already."""
        folder = Path(stage.output_dir)
        there = _written(folder)
        place = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
        return cls(
            stage.name, stage.output_dir, place, place.stat().st_dev, _less(disk.peak, there), _less(disk.stays, there)
        )


def shortages(needs: Sequence[Need], free: Mapping[int, int]) -> Iterator[Problem]:
    """The first stage whose peak certainly does not fit beside what those before it leave on its file system.

    `free` are the bytes that are free on each device.
    """
    for need, low, _ in _peaks(needs):
        if low > free[need.device]:
            text = (
                f"stage {need.stage} needs {human(low)} on the file system of {need.folder} with what the stages "
                f"before it still write there, {human(free[need.device])} are free"
            )
            yield Problem(need.folder, text, _HINT)
            return


def doubts(needs: Sequence[Need], free: Mapping[int, int]) -> Iterator[str]:
    """What may not fit: stages whose largest size would not."""
    for need, _, high in _peaks(needs):
        if high is not None and high > free[need.device]:
            yield (
                f"stage {need.stage} may need up to {human(high)} on the file system of {need.folder}, "
                f"{human(free[need.device])} are free"
            )
            return


def _needs(plan: Plan, todo: Sequence[PlannedStage]) -> list[Need]:
    disks = {stage.name: disk for stage, disk in zip(plan.stages, estimate(plan), strict=True)}
    return [Need.of(stage, disks[stage.name]) for stage in todo]


def _free(needs: Sequence[Need]) -> dict[int, int]:
    return {need.device: shutil.disk_usage(need.place).free for need in needs}


def _peaks(needs: Sequence[Need]) -> Iterator[tuple[Need, int, int | None]]:
    """(stage, what its file system must hold at its peak: at least, at most)."""
    before: dict[int, Span] = {}
    for need in needs:
        left = before.get(need.device, Span(0, 0))
        peak = left + need.peak
        yield need, peak.low, peak.high
        before[need.device] = left + need.stays


def counts(stage: PlannedStage) -> Counts:
    """How many checkpoints a stage keeps."""
    args = stage.args
    strategy = str(args.get("save_strategy", "steps"))
    every = float(hf_args.understood("save_steps", args.get("save_steps", _SAVE_STEPS)))
    step = math.ceil(stage.end_step * every) if every < 1 else int(every)
    least, most = 1, None  # how long an epoch is, or when a model is the best so far, is not known
    if strategy == "no":
        most = 1
    elif strategy == "steps" and step > 0:
        least = most = stage.end_step // step - stage.start_step // step + (stage.end_step % step != 0)
    limit = int(hf_args.understood("save_total_limit", args.get("save_total_limit") or 0))
    if limit < 1:
        return Counts(least, most, least, most)
    # The best one stays beside the newest.
    best = hf_args.is_on(args.get("load_best_model_at_end")) or bool(args.get("metric_for_best_model"))
    largest = max(limit, 2) if best else limit
    stays = largest if most is None else min(most, largest)
    return Counts(
        min(least, limit), stays, min(least, limit + 1), largest + 1 if most is None else min(most, largest + 1)
    )


def human(size: float) -> str:
    """Bytes for people: `1.25 GB` is 1.25 thousand million."""
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size:.0f} bytes"


def shown(span: Span) -> str:
    """A span for people: `1.2 GB`, `1.2 to 2.4 GB`, `at least 1.2 GB`."""
    if span.high is None:
        return f"at least {human(span.low)}" if span.low else "not known"
    if human(span.low) == human(span.high):
        return human(span.high)
    return f"{human(span.low)} to {human(span.high)}" if span.low else f"up to {human(span.high)}"


def _stage(
    plan: Plan,
    stage: PlannedStage,
    base: checkpoint_size.BaseModel | str,
    found: Sequence[tuple[Path, manifest.Manifest] | None],
) -> StageDisk:
    kept = counts(stage)
    alike = [
        there
        for other, there in zip(plan.stages, found, strict=True)
        if there is not None and other.index <= stage.index and _shape(other) == _shape(stage)
    ]
    if alike:
        size = checkpoint_size.of_checkpoint(*alike[-1])
        return StageDisk(size, kept, size.source)
    try:
        if isinstance(base, str):
            raise NotKnownError(base)
        size = checkpoint_size.of_stage(stage, base)
    except NotKnownError as error:
        return StageDisk(None, kept, str(error))
    return StageDisk(size, kept, size.source)


def _shape(stage: PlannedStage) -> tuple[object, ...]:
    peft = {name: value for name, value in stage.args.items() if name == "use_peft" or name.startswith("lora_")}
    return stage.script, stage.engine, stage.trainable, peft, [stage.args.get(name) for name in _SHAPING]


def _complete(stage: PlannedStage) -> tuple[Path, manifest.Manifest] | None:
    """The newest complete checkpoint in a stage's directory, up to its end."""
    for step, path in sorted(manifest.checkpoints(Path(stage.output_dir)), reverse=True):
        held = manifest.find(path) if step <= stage.end_step else None
        if held is not None and held.stage == stage.name and not manifest.problems(path):
            return path, held
    return None


def _written(folder: Path) -> int:
    """Bytes of the checkpoints and the model in a stage's directory; what has two names there counts once."""
    if not folder.is_dir():
        return 0
    own = [path for path in folder.iterdir() if path.is_file() and path.suffix in (".safetensors", ".bin")]
    files = [*own, *(file for _, path in manifest.checkpoints(folder) for file in path.rglob("*") if file.is_file())]
    return sum({file.stat().st_ino: file.stat().st_size for file in files}.values())


def _less(span: Span, there: int) -> Span:
    return Span(max(0, span.low - there), None if span.high is None else max(0, span.high - there))
