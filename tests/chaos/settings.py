"""What faults strike: a curriculum on one process or two, and stages that have ended; one run without Stepladder."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cases import SAVE_STEPS, STAGES
from support import ENVIRONMENT, SCRIPTS, TINY_ARGS, stepladder, tiny_curriculum

SCRIPT = "chaos_train.py"
END = STAGES["three"][1]
#: One data worker, so that there is one to be left behind. Older checkpoints are rotated away.
ARGS = {"save_steps": SAVE_STEPS, "save_total_limit": 1, "dataloader_num_workers": 1}
#: In seconds; a busy machine must not be taken for a hung training.
HANG = {"step": 10, "save": 10, "start": 40}


def curriculum(folder: Path, processes: int, retries: bool = False) -> Path:
    """Write the three stages into a folder."""
    return tiny_curriculum(
        folder,
        "chaos",
        SCRIPT,
        args=ARGS,
        stages=[{"name": name, "steps": end - start} for name, (start, end) in STAGES.items()],
        launcher={"nproc_per_node": processes},
        handover={"data": "continue"},
        hang=HANG,
        retries={"limit": 3 if retries else 0, "pause": 0.1},
    )


@dataclass(frozen=True)
class Setting:
    """What all cases on a number of processes share; nobody writes into its folders.

    Attributes:
        begun: stage -> folder in which the stages before it have ended.
        plain: output directory of one uninterrupted run of a plain Trainer.
        other: the same with another seed.
    """

    begun: dict[str, Path]
    plain: Path
    other: Path


def make(folder: Path, processes: int) -> Setting:
    """Run what the cases are compared with, and the stages before those in which they strike."""
    begun = {name: folder / name for name in STAGES}
    plain = folder / "plain"
    if not (folder / "made").exists():
        plain.mkdir(parents=True)
        _plain_trainer(plain, processes, "same", 42)
        _plain_trainer(plain, processes, "other", 43)
        _begin(begun, processes)
        (folder / "made").touch()
    return Setting(begun, plain / "same", plain / "other")


def _begin(begun: dict[str, Path], processes: int) -> None:
    before: str | None = None
    for name, folder in begun.items():
        if before is None:
            folder.mkdir()
            curriculum(folder, processes)
        else:
            subprocess.run(["cp", "-a", str(begun[before]), str(folder)], check=True)
            done = stepladder("run", "chaos.yaml", "--stage", before, cwd=folder)
            assert done.returncode == 0, done.stderr
        before = name


def _plain_trainer(folder: Path, processes: int, output: str, seed: int) -> None:
    args: dict[str, Any] = {
        **TINY_ARGS,
        **ARGS,
        "max_steps": END,
        "save_steps": END,
        "output_dir": output,
        "seed": seed,
    }
    argv = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    argv += [str(SCRIPTS / SCRIPT)]
    argv += [text for name, value in args.items() for text in (f"--{name}", str(value))]
    done = subprocess.run(argv, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, json.dumps(argv) + done.stderr
