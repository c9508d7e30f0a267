"""Checkpoints that a crash, a power cut or a full disk left half written: told by their content, never resumed."""

from __future__ import annotations

import time
from pathlib import Path

from stepladder import console
from stepladder.planning.plan import PlannedStage
from stepladder.preflight.checkpoint_fit import damage
from stepladder.records.events import Event
from stepladder.records.journal import Journal
from stepladder_worker import manifest


def set_aside(stage: PlannedStage, journal: Journal) -> None:
    """Rename what of a stage's checkpoints is not whole, and say so: the next one of that step starts in a new folder.

    The stage then goes on from the newest checkpoint that is. Nothing is deleted.
    """
    for step, checkpoint in sorted(manifest.checkpoints(Path(stage.output_dir))):
        trouble = damage(checkpoint) if stage.start_step < step <= stage.end_step else []
        if trouble:
            target = checkpoint.with_name(f"{checkpoint.name}.incomplete-{time.strftime('%Y%m%d-%H%M%S')}")
            checkpoint.rename(target)
            journal.append(Event.SET_ASIDE_INCOMPLETE, stage=stage.name, checkpoint=str(target), trouble=trouble[:3])
            console.warn(f"{checkpoint} is not complete ({trouble[0]}): set aside as {target.name}")
