"""What this process holds of a tensor, whichever engine has cut it up.

A fingerprint adds over elements at their places in the whole tensor, so the ranks add up what each of them holds:
nothing is gathered, and a tensor has the same fingerprint on any number of processes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from stepladder_worker import distributed, fingerprint
from stepladder_worker.session import BoundaryError

#: (name of the parameter, key of its optimizer state or "" for its weights).
Key = tuple[str, str]


@dataclass(frozen=True)
class Shard:
    """The part of a tensor that this process answers for.

    Attributes:
        dtype, shape: of the whole tensor.
        pieces: (elements in row order, flat index of the first one in the whole tensor).
        replicated: every process holds the whole; rank 0 answers for it.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    pieces: tuple[tuple[torch.Tensor, int], ...]
    replicated: bool

    @property
    def finite(self) -> bool:
        """Whether no element held here is NaN or infinite."""
        return all(bool(torch.isfinite(values).all()) for values, _ in self.pieces if values.is_floating_point())


def of(tensor: torch.Tensor) -> Shard:
    """A tensor that every process holds whole, or a DTensor (FSDP2)."""
    tensor = tensor.detach()
    if hasattr(tensor, "device_mesh"):
        return _of_dtensor(tensor)
    return Shard(tensor.dtype, tuple(tensor.shape), ((tensor, 0),), replicated=True)


def fingerprints(shards: Mapping[Key, Shard]) -> dict[Key, str]:
    """Fingerprint of every tensor; the same keys in the same order on all ranks.

    Raises BoundaryError when what every process should hold whole is not the same everywhere.
    """
    own = {key: _sum(shard) for key, shard in shards.items()}
    _require_replicas(shards, own)
    parts = [value if distributed.rank() == 0 or not shards[key].replicated else 0 for key, value in own.items()]
    totals = zip(shards.items(), distributed.add_up(parts), strict=True)
    return {key: fingerprint.text(shard.dtype, shard.shape, total) for (key, shard), total in totals}


def _sum(shard: Shard) -> int:
    return sum(fingerprint.partial(values, start) for values, start in shard.pieces)


def _require_replicas(shards: Mapping[Key, Shard], own: Mapping[Key, int]) -> None:
    replicated = [key for key, shard in shards.items() if shard.replicated]
    held = [own[key] for key in replicated]
    for rank, others in enumerate(distributed.gather(held)):
        wrong = [key for key, mine, theirs in zip(replicated, held, others, strict=True) if mine != theirs]
        if wrong:
            name, state = wrong[0]
            raise BoundaryError(
                f"{state or 'weights'} of {name} on rank {rank} are not those of rank {distributed.rank()}, expected "
                "replicas; hint: something in the script changes parameters on some ranks only"
            )


def _of_dtensor(tensor: torch.Tensor) -> Shard:
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor import Shard as Split
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    mesh, placements = tensor.device_mesh, tensor.placements  # type: ignore[attr-defined]
    shape = tuple(tensor.shape)
    if any(not isinstance(p, Replicate) and p != Split(0) for p in placements):
        return Shard(tensor.dtype, shape, ((tensor.full_tensor(), 0),), replicated=True)  # type: ignore[attr-defined]
    local = tensor.to_local()  # type: ignore[attr-defined]
    copies = [place for place, p in zip(mesh.get_coordinate(), placements, strict=True) if isinstance(p, Replicate)]
    if any(copies) or not local.numel():
        return Shard(tensor.dtype, shape, (), replicated=False)  # another process answers for it
    _, offset = compute_local_shape_and_global_offset(shape, mesh, placements)
    start = offset[0] * math.prod(shape[1:]) if shape else 0
    return Shard(tensor.dtype, shape, ((local, start),), replicated=False)
