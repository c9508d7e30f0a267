"""Reads checkpoints from disk and tells what they hold, independent of what anyone recorded.

`verify` runs this in the stage's own interpreter (the control side never imports torch) and compares its facts with
manifests and evidence. Nothing is unpickled beyond torch's `weights_only` types.
"""

from __future__ import annotations

import contextlib
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from stepladder_worker import fingerprint, manifest, snapshot

#: What a Trainer's random-state file holds beside tensors (transformers allows the same list).
_RNG_TYPES = [
    np.ndarray,
    np.dtype,
    np.dtypes.UInt32DType,
    getattr(np, "_core", getattr(np, "core", None)).multiarray._reconstruct,  # type: ignore[union-attr]
]


def print_facts(checkpoints: list[str]) -> int:
    """Print `{"checkpoints": {path: facts}}` as one JSON line."""
    print(json.dumps({"checkpoints": {path: facts(Path(path)) for path in checkpoints}}))  # noqa: T201
    return 0


def facts(checkpoint: Path) -> dict[str, Any]:
    """What lies in a checkpoint directory.

    Returns `problems` (from the manifest, with checksums), `global_step` (of trainer_state.json), `weights`
    (tensor name -> fingerprint), `non_finite` (tensor names), `optimizer` (one entry a parameter, in file order:
    `{"moments", "counter"}`; None without a file), `rng` (digests; None without a file), and `errors` (files that
    could not be read).
    """
    errors: list[str] = []
    weights, bad = _weights(checkpoint, errors)
    return {
        "problems": manifest.problems(checkpoint, deep=True),
        "global_step": _global_step(checkpoint, errors),
        "weights": weights,
        "non_finite": bad,
        "optimizer": _optimizer(checkpoint, errors),
        "rng": _rng(checkpoint, errors),
        "errors": errors,
    }


def _global_step(checkpoint: Path, errors: list[str]) -> int | None:
    try:
        return int(json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))["global_step"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        errors.append(f"trainer_state.json: {error}")
        return None


def _weights(checkpoint: Path, errors: list[str]) -> tuple[dict[str, str], list[str]]:
    prints: dict[str, str] = {}
    bad: list[str] = []

    def see(name: str, tensor: torch.Tensor) -> None:
        prints[name] = fingerprint.of_tensor(tensor)
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad.append(name)

    for path in sorted(checkpoint.rglob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                    see(name, file.get_tensor(name))
        except Exception as error:
            errors.append(f"{path.name}: {error}")
    for path in sorted(checkpoint.rglob("pytorch_model*.bin")):
        for name, tensor in (_load(path, errors) or {}).items():
            see(name, tensor)
    if not prints:
        errors.append("no weights found (*.safetensors, pytorch_model*.bin)")
    return prints, bad


def _optimizer(checkpoint: Path, errors: list[str]) -> list[dict[str, Any]] | None:
    path = checkpoint / "optimizer.pt"
    loaded = _load(path, errors) if path.exists() else None
    if loaded is None:
        return None
    try:
        order = [index for group in loaded["param_groups"] for index in group["params"]]
        entries = [snapshot.state_entry(loaded["state"].get(index, {})) for index in order]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        errors.append(f"optimizer.pt is no optimizer state: {error!r}")
        return None
    return [{"moments": moments, "counter": counter} for moments, counter in entries]


def _rng(checkpoint: Path, errors: list[str]) -> dict[str, str] | None:
    path = checkpoint / "rng_state.pth"
    if not path.exists():
        path = checkpoint / "rng_state_0.pth"
    loaded = _load(path, errors) if path.exists() else None
    return None if loaded is None else fingerprint.of_random_state(loaded)


def _load(path: Path, errors: list[str]) -> Any:
    try:
        # torch before 2.5 has no allow-list: what needs one is then reported as unreadable.
        allowed = getattr(torch.serialization, "safe_globals", lambda types: contextlib.nullcontext())
        with allowed(_RNG_TYPES):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        errors.append(f"{path.name}: {str(error).splitlines()[0]}")
        return None
