"""The commands before the first stage: `prepare`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from stepladder import console
from stepladder.checks import fill
from stepladder.errors import RunError
from stepladder.journal import Journal
from stepladder.log_tail import log_tail
from stepladder.paths import RunDirectory
from stepladder.plan import Plan


def prepare(plan: Plan, directory: RunDirectory, journal: Journal) -> None:
    """Run the commands whose `creates` does not exist yet. Raises RunError when one fails or makes nothing."""
    for index, command in enumerate(plan.prepare, start=1):
        target = Path(command.creates)
        if target.exists():
            continue
        log = directory.log_of_prepare(index)
        argv = [fill(part, python=sys.executable) for part in command.run]
        console.note(f"preparing {target}: {' '.join(command.run)}")
        with log.open("wb") as output:
            done = _run(argv, stdout=output, stderr=subprocess.STDOUT)
        journal.append("prepared", creates=str(target), argv=argv, exit_code=done)
        if done != 0 or not target.exists():
            what = f"ended with exit code {done}" if done else f"did not make {target}"
            tail = "\n".join(f"  | {line}" for line in log_tail(log))
            message = f"prepare command {index} {what}: {' '.join(argv)}\n{tail}"
            raise RunError(message, hint=f"its whole output is in {log}")


def _run(argv: list[str], **streams: Any) -> int:
    try:
        return subprocess.run(argv, stdin=subprocess.DEVNULL, env=os.environ, check=False, **streams).returncode
    except OSError as error:
        raise RunError(f"cannot run {argv[0]}: {error.strerror}", hint="check the command in the curriculum") from None
