"""What DeepSpeed and FSDP leave in a checkpoint beside the Trainer's own files, by parameter name and fingerprint."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from stepladder_worker import fingerprint, snapshot, unpickling
from stepladder_worker.carried import MASTER
from stepladder_worker.engines.zero_files import ZeroFiles

#: Folders of torch's distributed checkpoints, and the name under which each holds its tensors.
_SHARDED_MODEL, _SHARDED_OPTIMIZER = ("pytorch_model_fsdp_0", "model."), ("optimizer_0", "optimizer.state.")
_FULL_OPTIMIZER = "optimizer.bin"

Entries = list[dict[str, Any]]


def optimizer(checkpoint: Path) -> Entries | None:
    """`{"name", "moments", "counter"}` of every parameter with state; None where no engine left a file.

    Raises whatever reading raises: the files are read only after their checksums were found right.
    """
    if (checkpoint / "latest").is_file():
        return _zero_optimizer(ZeroFiles(checkpoint))
    if (checkpoint / _FULL_OPTIMIZER).is_file():
        saved = unpickling.load(checkpoint / _FULL_OPTIMIZER)
        return [_entry(name, *snapshot.state_entry(state)) for name, state in saved["state"].items()]
    if (checkpoint / _SHARDED_OPTIMIZER[0]).is_dir():
        return _sharded_optimizer(_sharded(checkpoint, *_SHARDED_OPTIMIZER))
    return None


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Weights that lie in an engine's files alone; empty where there are none."""
    if (checkpoint / _SHARDED_MODEL[0]).is_dir():
        return _sharded(checkpoint, *_SHARDED_MODEL)
    if not (checkpoint / "latest").is_file():
        return {}
    return ZeroFiles(checkpoint).weights()


def _zero_optimizer(files: ZeroFiles) -> Entries:
    totals: dict[tuple[str, str], int] = defaultdict(int)
    dtypes: dict[str, torch.dtype] = {}
    for piece in files.pieces():
        totals[piece.name, piece.key] += fingerprint.partial(piece.values, piece.start)
        dtypes[piece.key] = piece.values.dtype
    moments: dict[str, dict[str, str]] = {name: {} for name in files.shapes}
    for (name, key), total in totals.items():
        if key != MASTER or files.dtypes[name] != dtypes[MASTER]:
            moments[name][key] = fingerprint.text(dtypes[key], files.shapes[name], total)
    counters = files.counters()
    return [_entry(name, kinds, counters.get(name)) for name, kinds in moments.items()]


def _sharded_optimizer(found: dict[str, torch.Tensor]) -> Entries:
    states: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    for key, value in found.items():
        name, _, kind = key.rpartition(".")
        states[name][kind] = value
    return [_entry(name, *snapshot.state_entry(state)) for name, state in states.items()]


def _entry(name: str, moments: dict[str, str], counter: float | None) -> dict[str, Any]:
    return {"name": name, "moments": moments, "counter": counter}


def _sharded(checkpoint: Path, folder: str, prefix: str) -> dict[str, torch.Tensor]:
    """Tensors of a torch.distributed.checkpoint, whole, in this one process."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = FileSystemReader(checkpoint / folder)
    known = reader.read_metadata().state_dict_metadata
    state = {
        key: torch.empty(entry.size, dtype=entry.properties.dtype)
        for key, entry in known.items()
        if isinstance(entry, TensorStorageMetadata) and key.startswith(prefix)
    }
    load(state, storage_reader=reader, no_dist=True)
    return {key.removeprefix(prefix): value for key, value in state.items()}
