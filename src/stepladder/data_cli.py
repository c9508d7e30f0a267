"""The verbs of `stepladder data`. Each handler imports what it needs."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from stepladder import console
from stepladder.cli_options import AsJson, File, Overrides, Run
from stepladder.errors import InputError, PlanError, Problem

app = typer.Typer(
    help="Datasets and mixtures of a curriculum: check, show, build, export and score them.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@app.command()
def check(
    file: File,
    stage: Annotated[str | None, typer.Option("--stage", metavar="NAME", help="Only this stage.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Decode the images of all samples.")] = False,
    sample: Annotated[
        int | None, typer.Option("--sample", metavar="N", min=1, help="Decode those of N samples of a dataset: 200.")
    ] = None,
    as_json: AsJson = False,
    overrides: Overrides = None,
) -> None:
    """Check the data of all stages, and of evaluation, before anything trains. Exits 1 if there are errors."""
    from stepladder.data.check import report, run
    from stepladder.data.check.progress import bars
    from stepladder.data.stages import curriculum_data, located

    data = curriculum_data(file, overrides or (), stage)
    measured = run.MEASURED if sample is None else sample
    decoded = None if everything else run.DECODED if sample is None else sample
    with bars() as tell:
        try:
            found = run.check(file, data, run.Options(decoded, measured, tell))
        except InputError as error:
            raise located(data.loaded, error) from None
    if as_json:
        console.data(json.dumps(report.to_json(found), indent=1))
    else:
        console.render(report.report(found))
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def show(
    file: File,
    stage: Annotated[str, typer.Option("--stage", metavar="NAME", help="The stage.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.html", help="Write a sheet of samples.")] = None,
    samples: Annotated[int, typer.Option("--samples", metavar="N", min=1, help="Samples of the sheet.")] = 24,
    overrides: Overrides = None,
) -> None:
    """Show what a stage trains on: counts, lengths, the first samples, and a sheet with images and answers."""
    from stepladder.data.show import run
    from stepladder.data.stages import curriculum_data, located

    data = curriculum_data(file, overrides or (), stage)
    try:
        found = run.show(data, out, samples)
    except InputError as error:
        raise located(data.loaded, error) from None
    console.render(found, whole=True)
    if out is not None:
        console.note(f"the samples are drawn in {out}")


@app.command()
def score(
    file: File,
    dataset: Annotated[str, typer.Option("--dataset", metavar="NAME", help="The dataset of `data:`.")],
    by: Annotated[
        str, typer.Option("--by", metavar="WHAT", help="loss, length, mask_area, or an SQL expression over the fields.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE.parquet", help="Where the column is written.")],
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="For loss and length; left out, the curriculum's.")
    ] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="NAME", help="Whose arguments hold; left out, the first one's.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Score every sample of a dataset, as a column for `scores:`, and so for `tiers`, `where` and `order_by`."""
    from stepladder.data import score as scoring
    from stepladder.data.stages import curriculum_data, dataset_named

    data = curriculum_data(file, overrides or (), stage)
    chosen = data.stages[0].stage if data.stages else None
    source = dataset_named(data.loaded, dataset)
    found = scoring.score(source, data.cache, by, out, model or data.plan.stages[0].model, chosen)
    missing = f", {found.missing:,} without a value" if found.missing else ""
    spread = "" if found.median is None else f": {found.least:g} to {found.most:g}, median {found.median:g}"
    console.note(f"{out}: column `{found.column}` of {found.samples:,} samples{missing}{spread}")


@app.command()
def ledger(
    run: Run,
    stage: Annotated[str | None, typer.Option("--stage", metavar="NAME", help="Only this stage.")] = None,
    step: Annotated[int | None, typer.Option("--step", metavar="N", help="Only this global step.")] = None,
    sample: Annotated[str | None, typer.Option("--sample", metavar="ID", help="Only this sample.")] = None,
) -> None:
    """Print which sample was trained at which step, one JSON line a sample. For finished stages."""
    from stepladder.data.selection import read_selection
    from stepladder.opening import open_run, stage_named
    from stepladder.records import ledger as records
    from stepladder.records.facts import collect

    directory, resolved = open_run(run)
    if stage is not None:
        stage_named(resolved, stage)
    found = False
    for facts in collect(directory, records.told_of(resolved, stage, step), deep=False):
        selection = read_selection(directory.data(facts.stage.index, facts.stage.name).selection)
        for line in records.lines(facts, selection, step):
            if sample is None or line.id == sample:
                console.data(json.dumps(asdict(line)))
                found = True
    if sample is not None and not found:
        raise PlanError([Problem("--sample", f"no sample `{sample}` was trained there")])


@app.command()
def build(
    root: Annotated[Path, typer.Argument(metavar="ROOT", help="Data in the five-frames layout: SPLIT/SCENE/uid_N/.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the samples; made here.")],
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="The folder of ROOT that is used.")] = "train",
    point_rule: Annotated[
        str, typer.Option("--point-rule", metavar="RULE", help="Pixel of the mask to point at: farthest or center.")
    ] = "farthest",
    negatives: Annotated[
        str, typer.Option("--negatives", metavar="A:B:C", help="Ratio of the tiers of negatives.")
    ] = "2:1:1",
    negative_share: Annotated[float, typer.Option("--negative-share", help="Negatives among all samples.")] = 0.5,
    top_area: Annotated[float, typer.Option("--top-area", help="Share of the views used, largest masks first.")] = 0.8,
    min_area: Annotated[int, typer.Option("--min-area", metavar="PIXELS", help="A smaller mask shows nothing.")] = 1,
    concat: Annotated[bool, typer.Option("--concat", help="Both images side by side in one picture.")] = False,
    depth: Annotated[bool, typer.Option("--depth", help="Name depth pictures; every view must have one.")] = False,
    inpainted: Annotated[
        bool, typer.Option("--inpainted", help="Pictures with the object removed serve as tier C.")
    ] = False,
    unlisted: Annotated[
        str,
        typer.Option(
            "--unlisted", metavar="RULE", help="A frame that an object's list does not name: unknown, or absent."
        ),
    ] = "unknown",
    on_bad_sample: Annotated[
        str, typer.Option("--on-bad-sample", metavar="RULE", help="Damaged input: refuse, or skip and list it.")
    ] = "refuse",
    seed: Annotated[int, typer.Option("--seed", help="Of every draw.")] = 0,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes; left out, one a processor.")
    ] = None,
) -> None:
    """Make training samples, positives and tiers of negatives, of views with masks. Goes on where it was killed."""
    from stepladder.data.build import report
    from stepladder.data.build.build import SAMPLES
    from stepladder.data.build.build import build as build_samples
    from stepladder.data.build.settings import Settings, parse_ratio
    from stepladder.data.processes import usable_processors

    settings = Settings(
        split=split,
        point_rule=point_rule,
        negatives=parse_ratio(negatives),
        negative_share=negative_share,
        top_area=top_area,
        min_area=min_area,
        concat=concat,
        depth=depth,
        inpainted=inpainted,
        unlisted=unlisted,
        on_bad_sample=on_bad_sample,
        seed=seed,
    )
    description, built = build_samples(root, out, settings, workers or usable_processors())
    for text in report.warnings(description):
        console.warn(text)
    console.note(f"{out / SAMPLES}: {report.counts(description)}{'' if built else ' (already built)'}")


@app.command()
def export(
    file: File,
    stage: Annotated[str, typer.Option("--stage", metavar="NAME", help="The stage whose samples are written.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="PATH", help="A .json or .jsonl file; left out, NAME.json here.")
    ] = None,
    positions: Annotated[
        int | None, typer.Option("--positions", metavar="N", min=1, help="How many samples; left out, an epoch.")
    ] = None,
    placeholders: Annotated[
        bool, typer.Option("--placeholders", help="Put `<image>` for each image before the first question.")
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Write a stage's samples, in their order, as a LLaVA-style file for scripts that read their data themselves."""
    from stepladder.data.export import export as write
    from stepladder.data.lengths import window_of
    from stepladder.data.samples import DataError
    from stepladder.data.stages import curriculum_data, located

    data = curriculum_data(file, overrides or (), stage)
    target = out or Path(f"{stage}.json")
    if out is None and target.exists():
        raise PlanError([Problem(str(target), "is there already", "name a file with --out, which replaces it")])
    try:
        # Not in the run directory, where a stage that has begun keeps the selection that it trains on.
        with tempfile.TemporaryDirectory(prefix="stepladder-export-") as scratch:
            selection = data.stages[0].selected_in(Path(scratch) / "selection")
            count = write(selection, target, placeholders, positions, window_of(data.stages[0].stage.args))
    except InputError as error:
        raise located(data.loaded, error) from None
    except DataError as error:
        raise PlanError([Problem(f"stage {stage}", error.text, error.hint)]) from None
    console.note(f"{target}: {count:,} samples of stage {stage}")
