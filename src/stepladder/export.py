"""The model of a finished stage: final weights in the stage's directory, whatever the script did about them."""

from __future__ import annotations

import shutil
from pathlib import Path

from stepladder.errors import RunError
from stepladder.launch.ask import ask_worker
from stepladder.plan import PlannedStage
from stepladder.tasks import end_checkpoint

#: What holds a model's weights or those of its parts; a model of one part a folder has them deeper.
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
#: What training continues from, and no model needs.
_TRAINING_FILES = (
    "optimizer*",
    "scheduler.pt",
    "scaler.pt",
    "rng_state*",
    "trainer_state.json",
    "training_args.bin",
    "stepladder.json",
    "global_step*",
    "latest*",
    "zero_to_fp32.py",
    "zero_to_torch.py",
    "pytorch_model_fsdp*",
    "stepladder_*",
)


def require_model(stage: PlannedStage, worker: Path, script_ended_well: bool) -> None:
    """Copy from the end checkpoint what the stage's directory lacks of the model.

    Weights that lie there in an engine's shards alone are made whole by `worker`, in the stage's interpreter; raises
    RunError when it cannot.

    What a script wrote is its own (the best model, another precision) and left alone, unless the script did not end
    well: then a file may be cut short, and all are written again. Copies, never links: a script that writes the
    stage's model again must not reach into the checkpoint.
    """
    checkpoint = end_checkpoint(stage)
    for source in _model_files(checkpoint):
        target = Path(stage.output_dir) / source.relative_to(checkpoint)
        if not (target.is_file() and script_ended_well):
            _copy(source, target)
    if not _has_weights(Path(stage.output_dir)):
        _make_whole(stage, worker)


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
    kept = [path for path in sorted(checkpoint.iterdir()) if not any(path.match(p) for p in _TRAINING_FILES)]
    return [file for path in kept for file in ([path] if path.is_file() else sorted(path.rglob("*"))) if file.is_file()]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.copyfile(source, temporary)
    temporary.replace(target)
