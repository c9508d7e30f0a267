"""RunDirectory: the only place that spells a file name of a run. See docs/run_directory.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from stepladder_worker.contract import RESUMED

#: Name of the packed worker inside the run directory.
WORKER_ARCHIVE = "worker.pyz"


@dataclass(frozen=True)
class AttemptDirectory:
    """The files of one launch of one stage."""

    root: Path

    @property
    def task(self) -> Path:
        """The StageTask, written by the control side."""
        return self.root / "task.json"

    @property
    def result(self) -> Path:
        """The StageResult, written by the worker."""
        return self.root / "result.json"

    @property
    def resumed(self) -> Path:
        """The manifest of the checkpoint that the attempt resumed in mid-stage, copied by the worker."""
        return self.root / RESUMED

    @property
    def heartbeat(self) -> Path:
        """Where rank 0 is, rewritten by the worker about once a second."""
        return self.root / "heartbeat.json"

    @property
    def control(self) -> Path:
        """A request to stop with a checkpoint, written by the control side."""
        return self.root / "control.json"


@dataclass(frozen=True)
class StageDataDirectory:
    """What one stage trains on, where the curriculum says it with `data:`."""

    root: Path

    @property
    def selection(self) -> Path:
        """Parts, rows and order; the built-in trainer reads it."""
        return self.root / "selection.json"

    @property
    def export(self) -> Path:
        """The samples as a LLaVA-style file, alone in its folder, for scripts whose arguments say `{data}`."""
        return self.root / "export" / "samples.json"

    @property
    def export_note(self) -> Path:
        """Which selection the exported file holds; written after it."""
        return self.root / "export.json"

    @property
    def left_out(self) -> Path:
        """Bad samples that `on_bad_sample: skip` left out, one a line."""
        return self.root / "left_out.jsonl"


@dataclass(frozen=True)
class RunDirectory:
    """Everything a run wrote lies under `root` (the curriculum's `output_dir`) and in the stage directories."""

    root: Path

    @property
    def identity(self) -> Path:
        """Run id and name."""
        return self.root / "run.json"

    @property
    def plan(self) -> Path:
        """The resolved plan of the last `run` or `command`."""
        return self.root / "plan.json"

    @property
    def curriculum(self) -> Path:
        """The curriculum file as it was at the last `run` or `command`."""
        return self.root / "curriculum.yaml"

    @property
    def journal(self) -> Path:
        """Append-only events, one JSON object a line."""
        return self.root / "journal.jsonl"

    @property
    def lock(self) -> Path:
        """Held by the engine that works on this run."""
        return self.root / "lock"

    @property
    def worker(self) -> Path:
        """The packed worker that every stage of this run starts."""
        return self.root / WORKER_ARCHIVE

    @property
    def verification(self) -> Path:
        """The last verdict of `verify`."""
        return self.root / "verify.json"

    def log_of_prepare(self, index: int) -> Path:
        """Output of the `prepare` command number `index` (from 1)."""
        return self.root / f"prepare_{index}.log"

    @property
    def attempts_root(self) -> Path:
        """Folder with one folder a stage, of its attempts."""
        return self.root / "attempts"

    @property
    def data_root(self) -> Path:
        """Folder with one folder a stage, of what it trains on."""
        return self.root / "data"

    def attempts(self, index: int, stage: str) -> Path:
        """Folder with one folder an attempt of a stage."""
        return self.attempts_root / f"{index}-{stage}"

    def evaluation(self, index: int, stage: str) -> Path:
        """What the evaluation of a stage said, its last JSON line."""
        return self.attempts(index, stage) / "evaluation.json"

    def data(self, index: int, stage: str) -> StageDataDirectory:
        """What the `data:` of a stage selected."""
        return StageDataDirectory(self.data_root / f"{index}-{stage}")

    def predictions(self, index: int, stage: str) -> Path:
        """What the model of a stage answered to held-out samples, one JSON line a sample."""
        return self.attempts(index, stage) / "evaluation_predictions.jsonl"

    def evaluation_data(self, index: int, stage: str) -> StageDataDirectory:
        """What was selected for the evaluation of a stage."""
        return StageDataDirectory(self.data_root / f"{index}-{stage}-evaluation")

    def attempt(self, index: int, stage: str, attempt: int) -> AttemptDirectory:
        return AttemptDirectory(self.attempts(index, stage) / str(attempt))


def default_stage_dir(output_dir: str, index: int, stage: str) -> str:
    """Where a stage writes unless the curriculum's `stage_dir` says otherwise."""
    return f"{output_dir.rstrip('/')}/{index}-{stage}"


def stage_log(stage_dir: str | Path, stage: str) -> Path:
    """stdout and stderr of all ranks of all attempts of a stage, merged as they happened."""
    return Path(stage_dir) / f"stage_{stage}_full.log"


def checkpoint(stage_dir: str | Path, step: int) -> Path:
    """The Hugging Face checkpoint directory of a global step."""
    return Path(stage_dir) / f"checkpoint-{step}"


def step_of(checkpoint: Path) -> int:
    """The global step that a checkpoint's directory is named for."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def contains(folder: str, path: str) -> bool:
    """Whether `path` is `folder` or lies below it; both normalized in the same way."""
    return path == folder or folder == "." or path.startswith(folder.rstrip("/") + "/")
