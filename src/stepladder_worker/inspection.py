"""Reads checkpoints from disk and tells what they hold, independent of what anyone recorded.

`verify` runs this in the stage's own interpreter (the control side never imports torch) and compares its facts with
manifests and evidence. Nothing is unpickled but tensors, numpy's random states and plain records of DeepSpeed's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open

from stepladder_worker import engine_files, fingerprint, manifest, parked, snapshot, unpickling
from stepladder_worker.contract import ContractError, read_json

Read = TypeVar("Read")


def print_facts(checkpoints: list[str]) -> int:
    """Print `{"checkpoints": {path: facts}}` as one JSON line."""
    print(json.dumps({"checkpoints": {path: facts(Path(path)) for path in checkpoints}}))  # noqa: T201
    return 0


def facts(checkpoint: Path) -> dict[str, Any]:
    """What lies in a checkpoint directory.

    Returns `problems` (from the manifest, with checksums), `global_step` (of trainer_state.json), `weights`
    (tensor name -> fingerprint), `non_finite` (tensor names), `optimizer` (one entry a parameter, in file order:
    `{"name", "moments", "counter"}`, the name where the file has it; None without a file), `rng` (digests, one entry
    a rank), `parked` (name -> `{"moments", "counter"}`), `schedule` (`{"step"}` of the scheduler, empty for one that
    does not tell; None without a file), and `errors` (files that could not be read).
    """
    errors: list[str] = []
    problems = manifest.problems(checkpoint, compared=math.inf)
    weights, bad = _weights(checkpoint, errors, whole=not problems)
    return {
        "problems": problems,
        "global_step": _global_step(checkpoint, errors),
        "weights": weights,
        "non_finite": bad,
        "optimizer": _optimizer(checkpoint, errors, whole=not problems),
        "rng": _rng(checkpoint, errors),
        "parked": _parked(checkpoint, errors),
        "schedule": _schedule(checkpoint),
        "errors": errors,
    }


def _global_step(checkpoint: Path, errors: list[str]) -> int | None:
    try:
        step = read_json(checkpoint / "trainer_state.json").get("global_step")
    except ContractError as error:
        errors.append(f"trainer_state.json: {error}")
        return None
    if not isinstance(step, int):
        errors.append(f"trainer_state.json: global_step is {step!r}, expected a whole number")
        return None
    return step


def _weights(checkpoint: Path, errors: list[str], whole: bool) -> tuple[dict[str, str], list[str]]:
    prints: dict[str, str] = {}
    bad: list[str] = []

    def see(path: Path, name: str, tensor: torch.Tensor) -> None:
        # Parts of a model in folders of their own may use the same names; two files of one folder may not.
        name = (path.parent.relative_to(checkpoint) / name).as_posix()
        found = fingerprint.of_tensor(tensor)
        if prints.setdefault(name, found) != found:
            errors.append(f"{path.name}: {name} is another tensor than in a file beside it")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad.append(name)

    for path in sorted(checkpoint.rglob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                    see(path, name, file.get_tensor(name))
        except Exception as error:
            errors.append(f"{path.name}: {_first_line(error)}")
    for path in sorted(checkpoint.rglob("pytorch_model*.bin")):
        for name, tensor in (_load(path, errors) or {}).items():
            see(path, name, tensor)
    if not prints and whole:
        for name, tensor in (_of_engine(engine_files.weights, checkpoint, errors) or {}).items():
            see(checkpoint / name, name, tensor)
    if not prints:
        errors.append("no weights found (*.safetensors, pytorch_model*.bin)")
    return prints, bad


def _optimizer(checkpoint: Path, errors: list[str], whole: bool) -> list[dict[str, Any]] | None:
    path = checkpoint / "optimizer.pt"
    if not path.exists():
        return _of_engine(engine_files.optimizer, checkpoint, errors) if whole else None
    loaded = _load(path, errors)
    if loaded is None:
        return None
    try:
        order = [index for group in loaded["param_groups"] for index in group["params"]]
        entries = [snapshot.state_entry(loaded["state"].get(index, {})) for index in order]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        errors.append(f"optimizer.pt is no optimizer state: {error!r}")
        return None
    return [{"name": None, "moments": moments, "counter": counter} for moments, counter in entries]


def _of_engine(read: Callable[[Path], Read], checkpoint: Path, errors: list[str]) -> Read | None:
    """What an engine left, from files whose checksums are right; their formats differ from version to version."""
    try:
        return read(checkpoint)
    except Exception as error:
        errors.append(f"files of the engine cannot be read: {_first_line(error)}")
        return None


def _parked(checkpoint: Path, errors: list[str]) -> dict[str, dict[str, Any]]:
    path = checkpoint / parked.NAME
    loaded = _load(path, errors) if path.exists() else None
    try:
        return parked.prints(loaded or {})
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        errors.append(f"{path.name} is no optimizer state: {error!r}")
        return {}


def _schedule(checkpoint: Path) -> dict[str, int] | None:
    path = checkpoint / "scheduler.pt"
    loaded = _load(path, []) if path.exists() else None  # a script's own scheduler may hold anything
    step = loaded.get("last_epoch") if isinstance(loaded, dict) else None
    return None if not path.exists() else {"step": step} if isinstance(step, int) else {}


def _rng(checkpoint: Path, errors: list[str]) -> list[dict[str, str]]:
    alone = checkpoint / "rng_state.pth"
    paths = [alone] if alone.exists() else sorted(checkpoint.glob("rng_state_*.pth"), key=_rank)
    loaded = [_load(path, errors) for path in paths]
    return [fingerprint.of_random_state(states) for states in loaded if states is not None]


def _rank(path: Path) -> int:
    digits = path.stem.rpartition("_")[2]
    return int(digits) if digits.isdigit() else -1


def _load(path: Path, errors: list[str]) -> Any:
    """What torch saved. A damaged file can end its reader in any way."""
    try:
        return unpickling.load(path)
    except Exception as error:
        errors.append(f"{path.name}: {_first_line(error)}")
        return None


def _first_line(error: Exception) -> str:
    """Kind and first line of an error; some have no words."""
    return f"{type(error).__name__}: {(str(error).splitlines() or ['no reason given'])[0]}"
