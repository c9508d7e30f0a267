"""The model of a finished stage: final weights in the stage's directory, whatever the script did about them."""

from __future__ import annotations

import shutil
from pathlib import Path

from stepladder.plan import PlannedStage
from stepladder.tasks import end_checkpoint

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
    "pytorch_model_fsdp*",
)


def require_model(stage: PlannedStage, script_ended_well: bool) -> None:
    """Copy from the end checkpoint what the stage's directory lacks of the model.

    What a script wrote is its own (the best model, another precision) and left alone, unless the script did not end
    well: then a file may be cut short, and all are written again. Copies, never links: a script that writes the
    stage's model again must not reach into the checkpoint.
    """
    checkpoint = end_checkpoint(stage)
    for source in _model_files(checkpoint):
        target = Path(stage.output_dir) / source.relative_to(checkpoint)
        if not (target.is_file() and script_ended_well):
            _copy(source, target)


def _model_files(checkpoint: Path) -> list[Path]:
    kept = [path for path in sorted(checkpoint.iterdir()) if not any(path.match(p) for p in _TRAINING_FILES)]
    return [file for path in kept for file in ([path] if path.is_file() else sorted(path.rglob("*"))) if file.is_file()]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.copyfile(source, temporary)
    temporary.replace(target)
