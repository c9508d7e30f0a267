"""The verbs. Each handler imports what it needs, so that `plan` never waits for anything else."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stepladder import console, data_cli
from stepladder.cli_options import AsJson, File, NoFiles, Overrides, Run
from stepladder.errors import InputError, Interrupted, PlanError, Problem, StepladderError
from stepladder_worker import own_files

if TYPE_CHECKING:
    from stepladder.planning.plan import Plan
    from stepladder.verify.verdict import StageVerdict

EXIT_CODES = """Exit codes:

\b
  0    done
  1    verify: a check fails; probe: the chain does not hold
  2    bad input: nothing was started
  3    a stage failed
  4    a stage finished, but its evidence does not hold
  75   pre-empted (SIGTERM, SIGUSR1, time limit): a checkpoint is written, the same command continues
  130  interrupted by Ctrl-C: likewise"""

app = typer.Typer(
    help="Multi-stage fine-tuning that behaves as one training run, and proves it.\n\n" + EXIT_CODES,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)
app.add_typer(data_cli.app, name="data")


def _print_version(asked: bool) -> None:
    if asked:
        from stepladder import __version__

        console.data(f"stepladder {__version__}")
        raise typer.Exit


@app.callback()
def _verbs(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    # With a callback typer keeps verbs as verbs, whatever their number.
    pass


@app.command()
def plan(
    file: File,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
    no_files: NoFiles = False,
    overrides: Overrides = None,
) -> None:
    """Show the stages: steps, learning rate, batch, data, directories, changes, warnings."""
    from stepladder.opening import load_plan, tell_of_edit

    resolved = load_plan(file, overrides, not no_files)
    if not no_files:
        tell_of_edit(resolved)
    if as_json:
        console.data(json.dumps(resolved.to_json(), indent=1))
        return
    from stepladder.preflight import disk
    from stepladder.report.plan_table import plan_report

    console.render(plan_report(resolved, None if no_files else disk.estimate(resolved)))


@app.command()
def command(
    file: File,
    stage: Annotated[str, typer.Option("--stage", metavar="NAME", help="The stage.")],
    plain: Annotated[bool, typer.Option("--plain", help="Without Stepladder's worker.")] = False,
    no_files: NoFiles = False,
    overrides: Overrides = None,
) -> None:
    """Print the shell command of a stage, environment included."""
    from stepladder.opening import load_plan, stage_named
    from stepladder.shell import render_command

    resolved = load_plan(file, overrides, not no_files)
    chosen = stage_named(resolved, stage)
    if plain:
        console.data(render_command(chosen.plain_argv, chosen.env))
        return
    from stepladder import by_hand, paths

    if no_files:
        env = by_hand.elsewhere(resolved, chosen)
    else:
        chosen, env = by_hand.here(resolved, chosen, Path(file))
    log = str(paths.stage_log(chosen.output_dir, chosen.name))
    console.data(render_command(chosen.argv, env, folder=None if no_files else str(Path.cwd()), log=log))
    if no_files:
        console.note("nothing was written: on that machine, run this command there without --no-files first")
    else:
        console.note(f"its output goes to {log}")


@app.command()
def run(
    file: File,
    stage: Annotated[str | None, typer.Option("--stage", metavar="NAME", help="Only this stage.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Set aside what an earlier run left, start anew.")] = False,
    fork: Annotated[
        str | None,
        typer.Option("--fork", metavar="NEW_NAME", help="As a new run, from the last finished stage left as it was."),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Run what is not done yet, in order. The same command continues after any interruption."""
    from stepladder import engine
    from stepladder.curriculum.parse import load
    from stepladder.data.stages import located
    from stepladder.opening import forked, load_plan, plan_of_parent, stage_named

    written, overrides = overrides, forked(file, overrides, fork) if fork is not None else overrides
    resolved = load_plan(file, overrides, look_at_files=True, fresh=fresh, only=stage)
    parent = plan_of_parent(file, written, resolved) if fork is not None else None
    if stage is not None:
        stage_named(resolved, stage)
    for text in resolved.warnings:
        console.warn(text)
    try:
        verdicts = engine.run(resolved, Path(file), only=stage, fresh=fresh, parent=parent)
    except InputError as error:
        raise located(load(file, overrides or ()), error) from None
    _show_summary(resolved, verdicts, stage)


@app.command()
def status(run: Run, as_json: AsJson = False) -> None:
    """Show where a run stands."""
    from stepladder.opening import open_run
    from stepladder.records import status as standing
    from stepladder.report import summary

    directory, resolved = open_run(run)
    stages = standing.run_status(directory, resolved)
    if as_json:
        console.data(json.dumps(standing.to_json(resolved, stages), indent=1))
    else:
        console.render(summary.status(stages))


@app.command()
def logs(
    run: Run,
    stage: Annotated[str | None, typer.Option("--stage", metavar="NAME", help="Only this stage.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on while the run does.")] = False,
) -> None:
    """Print a run's merged log: all stages, all ranks, stdout and stderr, as it happened."""
    from stepladder.logs import show
    from stepladder.opening import open_run, stage_named

    directory, resolved = open_run(run)
    if stage is not None:
        stage_named(resolved, stage)
    show(directory, resolved, stage, follow)


@app.command()
def diagnose(
    what: Annotated[str, typer.Argument(metavar="RUN|LOGFILE", help="A run, a stage's directory, or any log.")],
    stage: Annotated[str | None, typer.Option("--stage", metavar="NAME", help="This stage of the run.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say why a training failed, from its log and its records: the cause, where it shows, and what helps."""
    from stepladder.diagnosis.subject import answer
    from stepladder.report import diagnosis

    found = answer(what, stage)
    if as_json:
        console.data(json.dumps(diagnosis.to_json(found), indent=1))
    else:
        console.render(diagnosis.report(found), whole=True)


@app.command()
def verify(run: Run, as_json: AsJson = False) -> None:
    """Check every stage from its evidence and from its checkpoints. Exits 1 if one check fails."""
    from stepladder.opening import open_run
    from stepladder.report import summary
    from stepladder.verdicts import verify_run
    from stepladder.verify.verdict import to_json

    directory, resolved = open_run(run)
    verdicts = verify_run(directory, resolved, resolved.stages)
    if as_json:
        console.data(json.dumps(to_json(verdicts), indent=1))
    else:
        console.render(summary.details(verdicts))
    if not all(verdict.ok for verdict in verdicts):
        raise typer.Exit(1)


@app.command()
def probe(
    file: File,
    stage: Annotated[str | None, typer.Option("--stage", metavar="NAME", help="Whose script and arguments.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the scratch directory.")] = False,
    as_json: AsJson = False,
    overrides: Overrides = None,
) -> None:
    """Test a script in two tiny stages: what it does at a boundary by itself, and with Stepladder.

    Takes a minute or two and changes nothing in your directories. Exits 1 if the chain does not hold with Stepladder.
    """
    from stepladder.curriculum.parse import load
    from stepladder.opening import load_plan, stage_named
    from stepladder.probe import chains
    from stepladder.report import probe_table

    # What an earlier run left of the stages plays no part in it.
    resolved = load_plan(file, overrides, look_at_files=True, fresh=True)
    chosen = resolved.stages[0] if stage is None else stage_named(resolved, stage)
    outcome = chains.run(load(file, overrides or ()), chosen.name, keep)
    if as_json:
        console.data(json.dumps(probe_table.to_json(outcome), indent=1))
    else:
        console.render(probe_table.report(outcome))
    failure = outcome.with_stepladder.failure
    if failure is not None:
        console.report(failure)
    if not outcome.with_stepladder.holds:
        raise typer.Exit(failure.exit_code if failure is not None and not outcome.with_stepladder.refused else 1)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder of a stage, or any model of images and text.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="Held-out samples: a data file or a selection.json.")],
    train_data: Annotated[
        str | None, typer.Option("--train-data", metavar="FILE", help="Training samples, for their mean point.")
    ] = None,
    max_tiles: Annotated[
        int | None, typer.Option("--max-tiles", min=1, help="Tiles an image; left out, as the model was trained.")
    ] = None,
    share_tiles: Annotated[
        bool, typer.Option("--share-tiles", help="The images of a sample share --max-tiles.")
    ] = False,
    use_depth: Annotated[bool, typer.Option("--use-depth", help="Depth maps are images as well.")] = False,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Samples answered at once.")] = 8,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Draw this many of the samples.")] = None,
    predictions: Annotated[
        str | None, typer.Option("--predictions", metavar="FILE", help="Keep the answers, one JSON line a sample.")
    ] = None,
    python: Annotated[
        str | None, typer.Option("--python", metavar="PATH", help="Interpreter, with Stepladder installed.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure what a model answers to held-out samples, beside what answering blindly is worth."""
    from stepladder.curriculum import evaluation_command

    images = {"max_tiles": max_tiles, "share_tiles": share_tiles, "use_depth": use_depth}
    samples = {"train_data": train_data, "batch_size": batch_size, "limit": limit, "predictions": predictions}
    code = evaluation_command.run(python, model, data, **images, **samples, table=not as_json)
    if code != 0:
        raise typer.Exit(code)


def _show_summary(resolved: Plan, verdicts: list[StageVerdict], only: str | None) -> None:
    """Steps, checks, losses, and task metrics where a stage was evaluated."""
    from stepladder.paths import RunDirectory
    from stepladder.records.facts import collect
    from stepladder.report import summary
    from stepladder.stage_evaluation import evaluation

    directory = RunDirectory(Path(resolved.output_dir))
    chosen = resolved.chosen(only)
    facts = collect(directory, chosen, deep=False)
    console.render(summary.checks(verdicts))
    console.render(summary.summary(verdicts, summary.losses(facts)))
    for line in summary.stepped_down(facts):
        console.render(line)
    found = [(stage.name, evaluation(directory, stage)) for stage in chosen]
    metrics = summary.metrics([(name, result) for name, result in found if result is not None])
    if metrics is not None:
        console.render(metrics)
    console.note(f"the model of stage {chosen[-1].name} is in {chosen[-1].output_dir}")


def main() -> None:
    """The `stepladder` command. Bad input ends in a message, one hint and an exit code, never in a traceback."""
    own_files.keep_others_out()
    try:
        app()
    except StepladderError as error:
        console.report(error)
        sys.exit(error.exit_code)
    except (OSError, RecursionError, OverflowError, UnicodeError, ValueError) as error:
        if os.environ.get("STEPLADDER_DEBUG"):
            raise
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "free some space; the same command continues" if full else "STEPLADDER_DEBUG=1 shows where"
        problem = Problem("stepladder", f"{type(error).__name__}: {error}", hint)
        console.report(PlanError([problem]))
        sys.exit(PlanError.exit_code)
    except KeyboardInterrupt:
        # typer ends the verbs themselves with 130; this is for the moments around them.
        sys.exit(Interrupted.exit_code)


if __name__ == "__main__":
    main()
