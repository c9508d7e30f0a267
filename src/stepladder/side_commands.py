"""The commands before the first stage: `prepare`."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from stepladder import console
from stepladder.curriculum.templates import fill
from stepladder.errors import RunError
from stepladder.launch import tied
from stepladder.paths import RunDirectory
from stepladder.planning.plan import Plan, PreparePlan
from stepladder.records.events import Event
from stepladder.records.journal import Journal
from stepladder.records.log_tail import log_tail
from stepladder_worker import own_files


def prepare(plan: Plan, directory: RunDirectory, journal: Journal) -> None:
    """Run the commands whose `creates` does not exist yet. Raises RunError when one fails or makes nothing.

    What a command made that was interrupted or failed may be half of it: it is set aside, and the command runs again.
    """
    for index, command in enumerate(plan.prepare, start=1):
        target = Path(command.creates)
        if target.exists() and _may_be_half(journal, target):
            aside = target.with_name(target.name + time.strftime(".incomplete-%Y%m%d-%H%M%S"))
            target.rename(aside)
            console.warn(f"{target} was being made when its command ended: set aside as {aside}")
        if not target.exists():
            _make(index, command, target, directory.log_of_prepare(index), journal)


def _may_be_half(journal: Journal, target: Path) -> bool:
    """Whether the last command of this run that makes it has not come to a good end."""
    kinds = (Event.PREPARING, Event.PREPARED)
    own = [event for event in journal.read() if event["event"] in kinds and event.get("creates") == str(target)]
    return bool(own) and own[-1].get("exit_code") != 0


def _make(index: int, command: PreparePlan, target: Path, log: Path, journal: Journal) -> None:
    argv = [fill(part, python=sys.executable) for part in command.run]
    console.note(f"preparing {target}: {' '.join(command.run)}")
    journal.append(Event.PREPARING, creates=str(target), argv=argv)
    with own_files.fresh(log) as output:
        code = _run(argv, stdout=output, stderr=subprocess.STDOUT)
    journal.append(Event.PREPARED, creates=str(target), exit_code=code)
    if code != 0 or not target.exists():
        what = f"ended with exit code {code}" if code else f"did not make {target}"
        tail = "\n".join(f"  | {line}" for line in log_tail(log))
        message = f"prepare command {index} {what}: {' '.join(argv)}\n{tail}"
        raise RunError(message, hint=f"its whole output is in {log}")


def _run(argv: list[str], **streams: Any) -> int:
    try:
        with tied.running(argv, **streams) as process:
            return process.wait()
    except OSError as error:
        raise RunError(f"cannot run {argv[0]}: {error.strerror}", hint="check the command in the curriculum") from None
