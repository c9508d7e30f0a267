"""What is unpickled without torch's `weights_only` is first proven to be what this run wrote.

torch takes tensors and plain types alone since 2.6 unless it is told otherwise; before that a loader that says nothing
runs what a file says. DeepSpeed tells it otherwise, and torch's distributed checkpoints have an index that is
unpickled. So their files are compared with the checksums in the manifest before the script starts. Standard library
only.
"""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

from stepladder_worker.contract import digest
from stepladder_worker.manifest import Manifest

#: The first torch that takes tensors and plain types alone.
_CAREFUL = (2, 6)
#: How the names of files end that some loader unpickles: none may be there that the manifest does not know.
_PICKLES = (".pt", ".pth", ".distcp", ".metadata", "optimizer.bin")
#: Files that a rank has for itself, by its number.
_OF_RANK = re.compile(r"(?:zero_pp_rank_|rng_state_|stepladder_data_rng_|/__)(\d+)")


def needs_proof(engine: str | None) -> bool:
    """Whether something that loads a checkpoint of this engine, in this interpreter, would run what a file says."""
    try:
        release = tuple(int(number) for number in importlib.metadata.version("torch").split(".")[:2])
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return True
    return engine is not None or release < _CAREFUL


def unproven(checkpoint: Path, held: Manifest, rank: int = 0, world: int = 1) -> list[str]:
    """Files of a checkpoint that are not what its manifest says, tensors in safetensors left out.

    Each of `world` ranks reads what all need and its share of what ranks have for themselves: no rank can load before
    all have met, so together they prove everything.
    """
    found = []
    for name, entry in sorted(held.files.items()):
        of_rank = _OF_RANK.search(name)
        mine = of_rank is None or int(of_rank[1]) % world == rank
        if mine and not name.endswith(".safetensors") and digest(checkpoint / name) != entry["sha256"]:
            found.append(name)
    there = (path.relative_to(checkpoint).as_posix() for path in sorted(checkpoint.rglob("*")) if path.is_file())
    return found + [name for name in there if name.endswith(_PICKLES) and name not in held.files]
