"""Runs a probe: the same two tiny stages twice in a scratch directory, observed only, then under Stepladder's hooks."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stepladder import console
from stepladder.attempts.attempt import train_stage
from stepladder.attempts.tasks import run_identity
from stepladder.curriculum.parse import Loaded, load
from stepladder.curriculum.spec import Stage
from stepladder.curriculum.templates import fill
from stepladder.editing import past
from stepladder.errors import PlanError, Problem, StageFailed, StepladderError
from stepladder.export import export_model
from stepladder.launch.stopping import StopRequest, stop_requests
from stepladder.paths import RunDirectory
from stepladder.planning.plan import Plan
from stepladder.preflight.machine import checked_plan
from stepladder.probe import derived
from stepladder.probe.outcome import Chain, Outcome, steps_made
from stepladder.records.facts import collect
from stepladder.records.journal import Journal
from stepladder.verify.stage import check_stage

_BY_HAND = "`stepladder command FILE --stage NAME --plain` prints the command to try it by hand"


def run(loaded: Loaded, name: str, keep: bool) -> Outcome:
    """Probe the script of the stage `name`; nothing outside a scratch directory is written, which goes unless `keep`.

    Raises CurriculumError or PlanError when the stage cannot be started, StageFailed when its script fails by itself,
    RunError when checkpoints cannot be read, Interrupted after Ctrl-C or SIGTERM.
    """
    stage = next(stage for stage in loaded.curriculum.stages if stage.name == name)
    _require_prepared(loaded)
    with stop_requests() as request, _scratch(keep) as folder:
        probe = _Probe(loaded, stage, folder, keep, request)
        try:
            by_itself = probe.chain("by-itself", hook=False)
            _require_script(by_itself)
            if by_itself.failure is not None and by_itself.facts[1].attempts:
                console.warn(f"by itself, {by_itself.failure.message}")
            with_stepladder = probe.chain("with-stepladder", hook=True)
        except (StepladderError, OSError) as error:
            # Ctrl-C also reaches what reads the checkpoints, which then fails.
            if request.made:
                raise request.error("the probe was stopped; nothing was changed", hint=None) from error
            raise
    return Outcome(loaded.curriculum.name, name, derived.changes(loaded.curriculum, stage), by_itself, with_stepladder)


@contextlib.contextmanager
def _scratch(keep: bool) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="stepladder-probe-")).resolve()
    try:
        yield folder
    finally:
        if keep:
            console.note(f"what the probe wrote is in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _require_prepared(loaded: Loaded) -> None:
    problems = []
    for index, command in enumerate(loaded.curriculum.prepare):
        if not Path(command.creates).exists():
            words = " ".join(fill(part, python=sys.executable) for part in command.run)
            text = f"nothing at {command.creates}, which this command makes; a probe runs no `prepare`"
            problems.append(Problem(loaded.document.place(("prepare", index)), text, f"run it first: {words}"))
    if problems:
        raise PlanError(problems)


def _require_script(chain: Chain) -> None:
    """The script trains at all: its first stage came to its last step, by itself. Raises why not."""
    first = chain.facts[0]
    if chain.failure is not None and steps_made(first) != first.stage.end_step:
        raise chain.failure


@dataclass(frozen=True)
class _Probe:
    loaded: Loaded
    stage: Stage
    folder: Path
    keep: bool
    request: StopRequest

    def chain(self, name: str, hook: bool) -> Chain:
        """Train the two stages; the second only where the first left an end checkpoint to continue from."""
        folder = self.folder / name
        folder.mkdir()
        file = folder / "probe.yaml"
        derived.write(derived.derive(self.loaded.curriculum, self.stage, folder / "run", hook), file)
        plan = checked_plan(load(str(file)))
        console.note("the script under Stepladder's hooks:" if hook else "the script by itself, observed:")
        directory = RunDirectory(Path(plan.output_dir))
        with past.locked(directory):
            past.write_down(directory, plan, file)
            file.unlink()  # secrets stand in it, which a kept probe does not keep
            failure = self._train(directory, plan, hook)
            facts = collect(directory, plan.stages, deep=True)
            verdicts = [check_stage(found) for found in facts]
            errors = [attempt.error for found in facts for attempt in found.attempts]
        if not self.keep:
            # Checkpoints of a large model are large: the scratch directory never holds those of both chains.
            shutil.rmtree(folder)
        refused = any(error is not None and error["type"] == "BoundaryError" for error in errors)
        return Chain(facts, verdicts, failure, refused)

    def _train(self, directory: RunDirectory, plan: Plan, hook: bool) -> StageFailed | None:
        run_id, journal = run_identity(directory, plan), Journal(directory.journal)
        for stage in plan.stages:
            if self.request.made:
                raise self.request.error(f"stopped before stage {stage.name}", hint=None)
            # Nothing here is worth a checkpoint.
            failure = train_stage(directory, run_id, plan, stage, journal, self.request, saves_when_stopped=False)
            if failure is not None:
                return self._explained(failure.error)
            if hook:
                export_model(stage, directory.worker, journal)
        return None

    def _explained(self, failure: StageFailed) -> StageFailed:
        """The failure for a person: without --keep its log is gone when it is read."""
        hint = failure.hint or _BY_HAND
        if self.keep:
            return StageFailed(failure.message, hint)
        return StageFailed(failure.message.replace(f"{self.folder}/", ""), f"{hint}; --keep keeps the log")
