"""What a safetensors file says of itself: names, types and shapes, without reading a tensor.

The format: https://huggingface.co/docs/safetensors. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: The start of a file: the length of the header in bytes, as a 64-bit number.
_LENGTH_BYTES = 8

Header = Mapping[str, Mapping[str, Any]]


def read(weights: Path) -> tuple[Header, int]:
    """(tensor name -> `{"dtype", "shape", "data_offsets"}`, byte at which the tensors begin).

    Raises ValueError saying what is wrong with the file, OSError where it cannot be read.
    """
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if not 0 < length <= weights.stat().st_size - _LENGTH_BYTES:
            raise ValueError(f"{weights.name} is no whole safetensors file: its header is cut short")
        text = file.read(length)
    try:
        entries = {name: entry for name, entry in json.loads(text).items() if name != "__metadata__"}
        sound = all(_is_entry(entry) for entry in entries.values())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{weights.name} is no safetensors file: {error!r}") from None
    if not sound:
        raise ValueError(f"{weights.name} is no safetensors file: its header names no type, shape or place")
    return entries, _LENGTH_BYTES + length


def truncation(weights: Path) -> str | None:
    """Why a file is not whole; None when it is."""
    try:
        header, start = read(weights)
    except ValueError as error:
        return str(error)
    expected = start + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    size = weights.stat().st_size
    return None if size == expected else f"{weights.name} has {size} bytes, its header names {expected}"


def _is_entry(entry: Mapping[str, Any]) -> bool:
    offsets, shape = entry["data_offsets"], entry["shape"]
    numbers = [*shape, *offsets]
    return len(offsets) == 2 and isinstance(entry["dtype"], str) and all(isinstance(n, int) and n >= 0 for n in numbers)
