"""Fingerprints of tensors and random states, so that two processes can compare what they hold by name.

A tensor's fingerprint is the sum modulo 2^64 of mix(bits of element, flat index) over its elements that are not
zero: it does not depend on how the tensor is sharded or on which device it lies, and any changed, moved or swapped
element changes it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

#: Elements mixed at once: bounds the temporary memory to a few int64 copies of this many elements.
CHUNK = 1 << 20

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# Odd constants of splitmix64 (Steele, Lea, Flood 2014), as signed 64-bit integers.
_A, _B, _C = 0x9E3779B97F4A7C15 - (1 << 64), 0xBF58476D1CE4E5B9 - (1 << 64), 0x94D049BB133111EB - (1 << 64)


def of_tensor(tensor: torch.Tensor) -> str:
    """`dtype[shape]:16 hex digits` of a whole tensor's exact bits."""
    return text(tensor.dtype, tuple(tensor.shape), partial(tensor, 0))


def partial(tensor: torch.Tensor, start: int) -> int:
    """What the elements of a part of a tensor add to its fingerprint.

    `start` is the flat index of the part's first element in the whole. Complex tensors count as pairs of reals.
    """
    flat = tensor.detach()
    if flat.is_complex():
        flat, start = torch.view_as_real(flat), 2 * start
    bits = flat.contiguous().view(-1).view(_BITS[flat.element_size()])
    total = torch.zeros((), dtype=torch.int64, device=bits.device)
    for first in range(0, bits.numel(), CHUNK):
        total += _mix(bits[first : first + CHUNK].to(torch.int64), start + first).sum()
    return int(total.item()) % (1 << 64)


def text(dtype: torch.dtype, shape: tuple[int, ...], total: int) -> str:
    """A fingerprint from the sum over all parts, modulo 2^64."""
    return f"{str(dtype).removeprefix('torch.')}{list(shape)}:{total % (1 << 64):016x}"


def of_random_state(states: Mapping[str, Any]) -> dict[str, str]:
    """Digest of every generator in a mapping laid out like the Trainer's `rng_state.pth`."""
    return {name: hashlib.sha256(_bytes(state)).hexdigest()[:16] for name, state in sorted(states.items())}


def random_states() -> dict[str, Any]:
    """The process's random generators, laid out like the Trainer's `rng_state.pth`."""
    states = cpu_random_states()
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.random.get_rng_state_all()
    return states


def cpu_random_states() -> dict[str, Any]:
    """The generators that loading data can draw from."""
    return {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.random.get_rng_state()}


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Put back what `random_states` returned."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.random.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        # A Trainer of one process saves the state of its device, one of several saves those of all devices.
        devices = states["cuda"] if isinstance(states["cuda"], (list, tuple)) else [states["cuda"]]
        for device, state in enumerate(devices[: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state, device)


def _mix(bits: torch.Tensor, start: int) -> torch.Tensor:
    index = torch.arange(start + 1, start + 1 + bits.numel(), dtype=torch.int64, device=bits.device)
    mixed = bits * _B + index * _A
    mixed = (mixed ^ _shift(mixed, 30)) * _B
    mixed = (mixed ^ _shift(mixed, 27)) * _C
    # Zeros add nothing, so that a tensor of zeros (a moment that never saw a gradient) is known by its fingerprint.
    return (mixed ^ _shift(mixed, 31)) * (bits != 0)


def _shift(value: torch.Tensor, places: int) -> torch.Tensor:
    """Logical shift to the right: int64's own shift repeats the sign."""
    return (value >> places) & ((1 << (64 - places)) - 1)


def _bytes(state: Any) -> bytes:
    if isinstance(state, torch.Tensor):
        return bytes(state.cpu().numpy().tobytes())
    if isinstance(state, np.ndarray):
        return state.tobytes()
    if isinstance(state, (tuple, list)):
        return b"|".join(_bytes(part) for part in state)
    if isinstance(state, dict):
        return b"|".join(_bytes(state[key]) for key in sorted(state))
    return repr(state.item() if isinstance(state, np.generic) else state).encode()
