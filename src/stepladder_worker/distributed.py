"""What the processes of a training tell each other.

Every function but `world` and `rank` is called by all ranks together. Without a process group there is one process,
and each function answers for it alone.
"""

from __future__ import annotations

from typing import Any

import torch


def world() -> int:
    """Processes of the training."""
    return torch.distributed.get_world_size() if _grouped() else 1


def rank() -> int:
    """This process, from 0."""
    return torch.distributed.get_rank() if _grouped() else 0


def barrier() -> None:
    """Wait for every rank."""
    if _grouped():
        torch.distributed.barrier()


def gather(value: Any) -> list[Any]:
    """One picklable value of every rank, in the order of the ranks; every rank gets them all."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    torch.distributed.all_gather_object(values, value)
    return values


def add_up(values: list[int]) -> list[int]:
    """Sums over the ranks, element by element, modulo 2^64. The same number of values on every rank."""
    if world() == 1 or not values:
        return [value % (1 << 64) for value in values]
    signed = [(value + (1 << 63)) % (1 << 64) - (1 << 63) for value in values]
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    total = torch.tensor(signed, dtype=torch.int64, device=device)
    torch.distributed.all_reduce(total)  # int64 wraps around
    return [int(value) % (1 << 64) for value in total.tolist()]


def _grouped() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
