"""Lets one fault strike a run, repeats the same command until it is done, and looks at what the fault has cost."""

from __future__ import annotations

import math
import os
import re
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from cases import SAVE_STEPS, STAGES, Case
from settings import Setting, curriculum
from stepladder_worker import manifest
from strike import Strike
from support import ENVIRONMENT, STARTED, STEPLADDER, processes_of

#: Seconds that a process may outlive its engine.
ORPHAN_SECONDS = 5.0
#: The same command is repeated so often at most; once is enough.
TRIES = 3
#: Seconds for one command.
LIMIT = 240.0


@dataclass
class Ran:
    """One command: its exit code, what it said, and processes that outlived it."""

    code: int
    errors: str
    orphans: list[str]


@dataclass
class Story:
    """What happened to a run.

    Attributes:
        struck: the run that the fault struck, last of those with a fault.
        repeated: the commands after it, without any fault.
        hit: the fault really struck.
        lost: complete checkpoints that are no longer, though no newer one of their stage is complete.
        trained_again: stage -> steps that were trained more than once.
        touched: stages that had ended before the fault and were trained, or whose model was written, after it.
    """

    struck: Ran
    repeated: list[Ran]
    hit: bool
    lost: list[str]
    trained_again: dict[str, int]
    touched: list[str]

    @property
    def finished(self) -> bool:
        return (self.repeated or [self.struck])[-1].code == 0

    @property
    def orphans(self) -> list[str]:
        return [orphan for ran in (self.struck, *self.repeated) for orphan in ran.orphans]


@dataclass
class Run:
    """A run in a folder of its own."""

    folder: Path
    complete: set[Path] = field(default_factory=set)

    @property
    def root(self) -> Path:
        return self.folder / "runs/chaos"

    def log(self, stage: str) -> str:
        return "".join(path.read_text("utf-8", "replace") for path in self.root.glob(f"*-{stage}/stage_*_full.log"))

    def steps_logged(self) -> Counter[str]:
        """Optimizer steps that rank 0 has logged, by stage."""
        return Counter({stage: len(re.findall(r"\{'loss'", self.log(stage))) for stage in STAGES})

    def command(self, fault: str, strike: Strike | None = None) -> Ran:
        """The same command as ever; on the way complete checkpoints are remembered."""
        said = (self.folder / "said").open("w+")
        with (
            said,
            subprocess.Popen(
                [str(STEPLADDER), "run", "chaos.yaml"],
                cwd=self.folder,
                env={**ENVIRONMENT, "STEPLADDER_FAULT": fault},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                text=True,
                start_new_session=True,
            ) as engine,
        ):
            STARTED.append(engine)
            deadline = time.monotonic() + LIMIT
            while engine.poll() is None:
                assert time.monotonic() < deadline, (
                    f"{fault}: the engine did not end\n{(self.folder / 'said').read_text()}"
                )
                self.remember()
                if strike is not None:
                    strike.look(engine.pid)
                time.sleep(0.005)
            said.seek(0)
            return Ran(engine.returncode, said.read(), self.orphans())

    def orphans(self) -> list[str]:
        """Processes of this run that live a few seconds after its engine; they are ended here."""
        deadline = time.monotonic() + ORPHAN_SECONDS
        while (left := self._processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in left:
            process.kill()
        return [str(process) for process in left]

    def _processes(self) -> list[psutil.Process]:
        return [process for process in processes_of(self.folder) if process.pid != os.getpid()]

    def remember(self) -> None:
        """Keep in mind which checkpoints are complete."""
        found = {path.parent for path in self.root.glob(f"*/checkpoint-*/{manifest.NAME}")} - self.complete
        self.complete |= {path for path in found if manifest.problems(path) == []}

    def lost(self) -> list[str]:
        """Checkpoints that were complete and are not, and are not replaced by a newer one of their stage."""
        whole = {path for path in self.complete if manifest.problems(path, math.inf) == []}
        newest = {
            path.parent: max(_step(other) for other in self.complete if other.parent == path.parent) for path in whole
        }
        gone = self.complete - whole
        return sorted(str(path) for path in gone if newest.get(path.parent, 0) <= _step(path))


def story(case: Case, setting: Setting, folder: Path) -> Story:
    """Let a case happen in a folder."""
    subprocess.run(["cp", "-a", f"{setting.begun[case.stage]}/.", str(folder)], check=True)
    curriculum(folder, case.processes, case.retries)
    run = Run(folder)
    if case.before:
        first = run.command(case.before)
        assert first.code == 3, first.errors
        assert f"planted fault {case.before}" in run.log(case.stage), "the fault before did not strike"
    before, models = run.steps_logged(), _models(run)
    strike = None if case.outside is None else Strike(case, case.outside, run.root)
    struck = run.command(case.planted, strike)
    hit = f"planted fault {case.planted}" in run.log(case.stage) if strike is None else strike.sent
    after, repeated = run.steps_logged(), list[Ran]()
    lost = run.lost()
    ended = [stage for stage, (_, end) in STAGES.items() if any(_step(path) == end for path in run.complete)]
    while len(repeated) < TRIES and (not repeated or repeated[-1].code != 0):
        repeated.append(run.command(""))
    lost += [path for path in run.lost() if path not in lost]
    now = run.steps_logged()
    touched = {stage for stage in STAGES if stage in ended and now[stage] != after[stage]}
    touched |= {
        stage for stage, written in models.items() if _models(run).get(stage) != written or now[stage] != before[stage]
    }
    again = {stage: now[stage] - (end - start) for stage, (start, end) in STAGES.items()}
    return Story(struck, repeated, hit, lost, again, sorted(touched))


def allowed_again(case: Case) -> dict[str, int]:
    """Steps that each stage may train more than once: those since its last checkpoint, for each fault."""
    faults = 2 if case.before else 1
    return {stage: faults * SAVE_STEPS if stage == case.stage else 0 for stage in STAGES}


def _models(run: Run) -> dict[str, int]:
    """When the model of each ended stage was written, in ns."""
    found = {stage: next(iter(run.root.glob(f"*-{stage}/model.safetensors")), None) for stage in STAGES}
    return {stage: path.stat().st_mtime_ns for stage, path in found.items() if path is not None}


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))
