"""Fill ZeRO's partitions from a checkpoint of any number of processes, by parameter name and place.

DeepSpeed itself loads a ZeRO checkpoint only onto as many processes as wrote it; its universal checkpoints need a
conversion in between and share one step counter among groups. Here every process reads the pieces of all ranks, one
file at a time, and keeps what belongs to its own partitions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from stepladder_worker.carried import MASTER
from stepladder_worker.engines import zero
from stepladder_worker.engines.zero_files import Piece, ZeroFiles
from stepladder_worker.session import BoundaryError


def fits(engine_optimizer: Any, files: ZeroFiles, world: int) -> bool:
    """Whether DeepSpeed can load these files itself: written by as many processes, in the same kind of partitions."""
    return files.world == world and files.stage_3 == hasattr(engine_optimizer, "fp16_groups")


def load(engine: Any, partitioned: Any, names: dict[int, str], files: ZeroFiles, weights_only: bool) -> None:
    """Weights, 32-bit copies, moments and step counters of every trained parameter.

    Args:
        engine: of DeepSpeed.
        partitioned: its ZeRO optimizer.
        names: of the parameters, by id.
        files: of the checkpoint.
        weights_only: leave the optimizer as fresh as it is; other parameters may then be trained than were.

    Raises BoundaryError for a trained parameter that the files do not hold.
    """
    places = {names[id(place.parameter)]: place for place in zero.places(partitioned)}
    missing = sorted(places.keys() - files.shapes.keys())
    if missing and not weights_only:
        raise BoundaryError(
            f"{missing[0]} is trained, and the checkpoint's partitions hold {len(files.shapes)} parameters without it; "
            "hint: keep the trainable parameters equal or hand over with `handover: {optimizer: reset}`"
        )
    with _cut_up(partitioned):
        for piece in files.pieces():
            if piece.name in places and (piece.key == MASTER or not weights_only):
                _keep(partitioned, places[piece.name], piece)
    if not weights_only:
        _count(partitioned, places, files.counters())
    buffers = dict(engine.module.named_buffers())
    for name, values in files.buffers.items():
        if name in buffers:
            buffers[name].copy_(values)
    for name, value in files.steps.items():
        setattr(engine, name, value)
    partitioned.loss_scaler = files.loss_scaler


@contextmanager
def _cut_up(partitioned: Any) -> Iterator[None]:
    """Stage 3 keeps small parameters whole on every process: they are cut up before loading and made whole after."""
    for_loading = hasattr(partitioned, "checkpoint_event_prologue")
    if for_loading:
        partitioned.checkpoint_event_prologue()
    try:
        yield
    finally:
        if for_loading:
            partitioned.checkpoint_event_epilogue()


def _keep(partitioned: Any, place: zero.Place, piece: Piece) -> None:
    if piece.key == MASTER:
        _copy(place.flat.detach().view(-1).narrow(0, place.offset, place.count), place.start, piece)
        _copy(*_weights(place), piece)
    else:
        state = partitioned.optimizer.state[place.flat]
        if piece.key not in state:
            state[piece.key] = torch.zeros_like(place.flat, dtype=piece.values.dtype)
        _copy(state[piece.key].view(-1).narrow(0, place.offset, place.count), place.start, piece)


def _weights(place: zero.Place) -> tuple[torch.Tensor, int]:
    """(elements of the model's own parameter that this process holds, flat index of the first)."""
    if hasattr(place.parameter, "ds_tensor"):
        return zero.own_part(place.parameter, place.parameter.ds_tensor.data)
    return place.parameter.data.view(-1), 0


def _copy(target: torch.Tensor, start: int, piece: Piece) -> None:
    """Copy what a piece and a target, which begins at flat index `start`, have in common."""
    first = max(start, piece.start)
    count = min(start + target.numel(), piece.start + piece.values.numel()) - first
    if count > 0:
        target.narrow(0, first - start, count).copy_(piece.values.narrow(0, first - piece.start, count))


def _count(partitioned: Any, places: dict[str, zero.Place], counters: dict[str, float]) -> None:
    """Every partition gets a counter of its own: one tensor for all would be stepped once for each."""
    for name, place in places.items():
        count = counters.get(name)
        state = partitioned.optimizer.state[place.flat]
        if count is None:
            continue
        if type(partitioned.optimizer).__module__.startswith("deepspeed."):
            state["step"] = int(count)
            if "step" in place.group:
                place.group["step"] = int(count)
        else:
            on_device = place.group.get("fused") or place.group.get("capturable")
            device = place.flat.device if on_device else torch.device("cpu")
            state["step"] = torch.tensor(count, dtype=torch.float32, device=device)
