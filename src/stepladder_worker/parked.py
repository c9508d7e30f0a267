"""Parked optimizer state: of parameters that this stage does not train, kept for a later one that thaws them.

Every checkpoint of such a stage holds it in one file, so that it survives a crash and any number of stages between.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from stepladder_worker import snapshot

#: Name -> optimizer state (tensors and numbers), readable with `torch.load(..., weights_only=True)`.
NAME = "stepladder_parked.pt"

State = dict[str, dict[str, Any]]


def load(checkpoint: Path) -> State:
    """What a checkpoint has parked; empty without such a file. Tensors stay on disk until they are used."""
    path = checkpoint / NAME
    return torch.load(path, map_location="cpu", mmap=True, weights_only=True) if path.exists() else {}


def write(checkpoint: Path, parked: State) -> None:
    """Put what is parked into a checkpoint; one that is written over keeps no older file."""
    (checkpoint / NAME).unlink(missing_ok=True)
    if parked:
        torch.save(parked, checkpoint / NAME)


def prints(parked: State) -> dict[str, dict[str, Any]]:
    """Fingerprints as in a Snapshot: name -> {"moments", "counter"}."""
    entries = {name: snapshot.state_entry(state) for name, state in sorted(parked.items())}
    return {name: {"moments": moments, "counter": counter} for name, (moments, counter) in entries.items()}
