"""Asks the packed worker for something in a stage's own interpreter: the control side never imports torch."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path


def ask_worker(python: str, worker: Path, env: Mapping[str, str], *words: str) -> tuple[str, str | None]:
    """(what `worker` printed, why it failed or None). `env` is added to this process's environment."""
    done = subprocess.run(
        [python, str(worker), *words],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **env},
        check=False,
    )
    return done.stdout, None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no output"])[-1]
