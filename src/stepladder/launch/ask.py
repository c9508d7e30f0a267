"""Asks the packed worker for something in a stage's own interpreter: the control side never imports torch."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from stepladder.launch import tied


def ask_worker(python: str, worker: Path, env: Mapping[str, str], *words: str) -> tuple[str, str | None]:
    """(what `worker` printed, why it failed or None). `env` is added to this process's environment."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": {**os.environ, **env}}
    with tied.running([python, str(worker), *words], **streams) as process:
        printed, errors = process.communicate()
    return printed, None if process.returncode == 0 else (errors.strip().splitlines() or ["no output"])[-1]
