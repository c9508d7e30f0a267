"""The model of a finished stage: final weights in the stage's directory, whatever the script did about them."""

from __future__ import annotations

from pathlib import Path

from stepladder import shared_files
from stepladder.attempts.tasks import end_checkpoint
from stepladder.errors import RunError
from stepladder.launch.ask import ask_worker
from stepladder.planning.plan import PlannedStage
from stepladder.preflight.checkpoint_size import TRAINING_FILES
from stepladder.records.events import LAUNCHES, Event, last
from stepladder.records.journal import Journal

#: What holds a model's weights or those of its parts; a model of one part a folder has them deeper.
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def export_model(stage: PlannedStage, worker: Path, journal: Journal) -> None:
    """See to the stage's model, once after each launch of it; whether its script ended well is known for attempts that
    this engine saw."""
    events = journal.read()
    if last(events, stage.name, *LAUNCHES, Event.MODEL_READY).get("event") == Event.MODEL_READY:
        return
    script_ended_well = last(events, stage.name, Event.ATTEMPT_ENDED).get("exit_code") == 0
    journal.append(Event.MODEL_READY, stage=stage.name, stored_once=require_model(stage, worker, script_ended_well))


def require_model(stage: PlannedStage, worker: Path, script_ended_well: bool) -> int:
    """See that the stage's directory has the model of the end checkpoint, which nothing writes to from now on.

    What both hold is stored once where that is safe; returns the bytes that are. Weights that lie in an engine's
    shards alone are made whole by `worker`, in the stage's interpreter; raises RunError when it cannot.

    What a script wrote is its own (the best model, another precision) and left alone, unless the script did not end
    well: then a file may be cut short, and all are written again.
    """
    checkpoint, folder = end_checkpoint(stage), Path(stage.output_dir)
    shared_files.protect(checkpoint)
    stored = 0
    for source in _model_files(checkpoint):
        target = folder / source.relative_to(checkpoint)
        if not (target.is_file() and script_ended_well):
            stored += shared_files.give(source, target)
        elif not target.is_symlink() and shared_files.same(source, target):
            stored += shared_files.share(source, target)
    if not _has_weights(folder):
        _make_whole(stage, worker)
    return stored


def _has_weights(folder: Path) -> bool:
    own = [path for path in folder.iterdir() if not path.name.startswith("checkpoint-")]
    files = [file for path in own for file in ([path] if path.is_file() else path.rglob("*"))]
    return any(file.match(pattern) for file in files for pattern in _WEIGHTS)


def _make_whole(stage: PlannedStage, worker: Path) -> None:
    words = ("--whole-model", str(end_checkpoint(stage)), stage.output_dir)
    _, trouble = ask_worker(stage.python, worker, stage.env, *words)
    if trouble is not None:
        raise RunError(f"the model of stage {stage.name} cannot be made whole: {trouble}", hint="save it in the script")


def _model_files(checkpoint: Path) -> list[Path]:
    kept = [path for path in sorted(checkpoint.iterdir()) if not any(path.match(p) for p in TRAINING_FILES)]
    return [file for path in kept for file in ([path] if path.is_file() else sorted(path.rglob("*"))) if file.is_file()]
