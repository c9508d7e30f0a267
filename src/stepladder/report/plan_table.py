"""A plan for the terminal: the stages as a table, then where each reads and writes and what changes, then warnings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table

from stepladder.curriculum import hf_args
from stepladder.planning.plan import Plan, PlannedStage
from stepladder.planning.remarks import number
from stepladder.preflight.disk import Counts, StageDisk, shown
from stepladder.report.progress import duration


def plan_report(plan: Plan, disks: Sequence[StageDisk] | None = None) -> RenderableType:
    """The whole answer of `stepladder plan`; `disks` is what each stage will write, None where nobody looked."""
    said = [f"warning: {text}" for text in plan.warnings]
    if any(stage.mixture is not None for stage in plan.stages):
        said.append("data are not read here: `stepladder data check` looks at them")
    return Group(_heading(plan), _stages(plan), _details(plan, disks), *said)


def _heading(plan: Plan) -> RenderableType:
    total = plan.stages[-1].end_step
    table = Table.grid(padding=(0, 1))
    table.add_row("in", plan.output_dir)
    for script in dict.fromkeys(stage.script for stage in plan.stages):
        table.add_row("script", script)
    for command in plan.prepare:
        table.add_row("prepare", " ".join(command.run))
    for what in dict.fromkeys(stage.evaluate.what for stage in plan.stages if stage.evaluate is not None):
        table.add_row("evaluate", what)
    return Group(f"{plan.name}: {len(plan.stages)} stages, {total} steps, schedule {plan.schedule}", table)


def _stages(plan: Plan) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("stage", "steps", "from", "LR", "batch", "samples"):
        table.add_column(title, overflow="fold", justify="right" if title == "samples" else "left")
    for stage in plan.stages:
        batch = stage.batch
        table.add_row(
            f"{stage.index} {stage.name}",
            f"{stage.start_step} -> {stage.end_step}",
            _start(plan, stage),
            _learning_rate(stage),
            f"{batch.per_device}x{batch.accumulation}x{batch.processes} = {batch.samples}",
            str(stage.samples),
        )
    # What the product in the column `batch` is made of.
    table.caption = "batch: samples a device x accumulation x processes = samples a step"
    table.caption_justify, table.caption_style = "left", ""
    return table


def _details(plan: Plan, disks: Sequence[StageDisk] | None) -> Table:
    table = Table.grid(padding=(0, 1))
    for index, stage in enumerate(plan.stages):
        title = f"{stage.index} {stage.name}"
        table.add_row("")
        table.add_row(title, "from", stage.resume_from or stage.model)
        table.add_row("", "data", _data(stage))
        table.add_row("", "writes", stage.output_dir)
        if disks is not None:
            table.add_row("", "disk", _disk(disks[index]))
        for title, said in _setbacks(stage):
            table.add_row("", title, said)
        for line in stage.changes or (("the same as before",) if stage.index > 1 else ()):
            table.add_row("", "change", line)
    table.add_row("")
    return table


def _learning_rate(stage: PlannedStage) -> str:
    """At both ends, and at the peak where it is higher than both: `0 -> 0.001 -> 0`."""
    shown = [stage.lr_start, stage.lr_end]
    curve = stage.curve
    if curve is not None:
        peak_step = curve.offset + curve.warmup_steps
        if stage.start_step < peak_step < stage.end_step:
            peak = curve.lr(peak_step)
            shown[1:1] = [peak] if all(lr is not None and lr < peak for lr in shown) else []
    return " -> ".join(map(number, shown))


def _start(plan: Plan, stage: PlannedStage) -> str:
    if stage.resume_from is None:
        return "the model"
    return plan.stages[stage.index - 2].name


def _data(stage: PlannedStage) -> str:
    named = [str(stage.args[name]) for name in hf_args.DATA_ARGS if name in stage.args]
    if stage.mixture is not None:
        named = [stage.mixture.name]
    how = "goes on" if stage.data_start_step != stage.start_step else "from its first sample"
    return f"{', '.join(named) or 'that of the script'}, {how}"


def _setbacks(stage: PlannedStage) -> Iterator[tuple[str, str]]:
    """What happens to the stage when it runs out of memory, fails, hangs or takes too long, where that was said."""
    yield from (("on_oom", ", ".join(rung.changes)) for rung in stage.rungs)
    if stage.retries.limit:
        yield "retries", f"at most {stage.retries.limit}, the first after {duration(stage.retries.pause)}"
    if stage.hang is None:
        yield "hang", "never"
    if stage.time_limit is not None:
        yield "limit", f"{duration(stage.time_limit)} a launch"


def _disk(disk: StageDisk) -> str:
    """`5.2 GB at once, 4 GB stay: 3 checkpoints (4 while one is written) of 1.2 GB, model 400 MB (from ...)`."""
    if disk.size is None:
        return f"{_checkpoints(disk.counts)}, how large is not known: {disk.why}"
    sizes = f"{_checkpoints(disk.counts)} of {shown(disk.size.checkpoint)}, model {shown(disk.size.model)}"
    return f"{shown(disk.peak)} at once, {shown(disk.stays)} stay: {sizes} (from {disk.why})"


def _checkpoints(counts: Counts) -> str:
    if counts.most is None:
        return f"at least {counts.least} checkpoint{'s' * (counts.least > 1)}"
    number = f"{counts.most} checkpoint{'s' * (counts.most > 1)}"
    return number if counts.most_at_once == counts.most else f"{number} ({counts.most_at_once} while one is written)"
