"""What may be unpickled of a checkpoint: tensors, plain types and numpy's generator state, nothing that could run code.

Since torch 2.6 `torch.load` takes tensors and plain types alone unless told otherwise. transformers before 4.48 does
not tell it, so that its own random-state files cannot be loaded; torch before 2.5 cannot be told.
"""

from __future__ import annotations

import contextlib
import pickle
import types
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch

#: What a Trainer's random-state file holds beside tensors (newer transformers allow the same list).
_TYPES: list[Any] = [
    np.ndarray,
    np.dtype,
    type(np.dtype(np.uint32)),
    np.empty(0).__reduce__()[0],  # where it lives depends on numpy's version
]
#: All that such a file names, for a torch that takes no list.
_NAMES = {
    ("_codecs", "encode"),
    ("collections", "OrderedDict"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("torch", "ByteStorage"),
    ("torch._utils", "_rebuild_tensor_v2"),
}


class _RandomStateUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a random state")
        return super().find_class(module, name)


def load(path: Path) -> Any:
    """Tensors, plain types and random states of a file written by `torch.save`.

    Raises pickle.UnpicklingError for anything else, and what torch raises for a file that cannot be read.
    """
    with random_states_allowed():
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            if _takes_a_list():
                raise
    only = types.SimpleNamespace(Unpickler=_RandomStateUnpickler, __name__=__name__)
    return torch.load(path, map_location="cpu", pickle_module=only, weights_only=False)


def random_states_allowed() -> AbstractContextManager[Any]:
    """Within it, a `torch.load` that refuses numpy's types by default reads random-state files."""
    return torch.serialization.safe_globals(_TYPES) if _takes_a_list() else contextlib.nullcontext()


def _takes_a_list() -> bool:
    return hasattr(torch.serialization, "safe_globals")
