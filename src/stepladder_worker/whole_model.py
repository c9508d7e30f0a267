"""Write a model's weights whole where an engine left them in shards alone, so that the next stage can load them."""

from __future__ import annotations

import sys
from pathlib import Path

from safetensors.torch import save_file

from stepladder_worker import engine_files, manifest, proven

WEIGHTS = "model.safetensors"


def write(checkpoint: str, folder: str) -> int:
    """Make `folder/model.safetensors` of a checkpoint's shards; exit code 1 with the reason where there are none."""
    held = manifest.find(Path(checkpoint))
    try:
        found = ["stepladder.json"] if held is None else proven.unproven(Path(checkpoint), held)
        if found:
            raise ValueError(f"{found[0]} is not what was written (checksum)")
        tensors = engine_files.weights(Path(checkpoint))
    except Exception as error:
        tensors, reason = {}, f"{type(error).__name__}: {error}"
    else:
        reason = "it holds neither weights nor shards of them"
    if not tensors:
        print(f"{checkpoint}: {reason}", file=sys.stderr)  # noqa: T201 - read by whoever started this process
        return 1
    target = Path(folder) / WEIGHTS
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.tmp")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata={"format": "pt"})
    temporary.replace(target)
    return 0
