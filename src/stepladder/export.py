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


def require_model(stage: PlannedStage) -> None:
    """Copy from the end checkpoint what the stage's directory lacks of the model, or has cut short by a crash.

    A file of the same size is left alone: it may be the best model, which the script wrote on purpose. Copies,
    never links: a script that writes the stage's model again must not reach into the checkpoint.
    """
    folder = Path(stage.output_dir)
    for source in _model_files(end_checkpoint(stage)):
        target = folder / source.relative_to(end_checkpoint(stage))
        if not target.is_file() or target.stat().st_size < source.stat().st_size:
            _copy(source, target)


def _model_files(checkpoint: Path) -> list[Path]:
    kept = [path for path in sorted(checkpoint.iterdir()) if not any(path.match(p) for p in _TRAINING_FILES)]
    return [file for path in kept for file in ([path] if path.is_file() else sorted(path.rglob("*"))) if file.is_file()]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.copyfile(source, temporary)
    temporary.replace(target)
