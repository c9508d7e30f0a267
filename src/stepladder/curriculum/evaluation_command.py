"""The built-in evaluation as a command: what `stepladder evaluate` and `evaluate: {data: ...}` start."""

from __future__ import annotations

import shutil
import subprocess
import sys

from stepladder.errors import PlanError, Problem

MODULE = "stepladder.evaluate"

#: An interpreter on a slow network disk may take its time, but not for ever.
_ANSWER_SECONDS = 60


def words(python: str, model: str, data: str, **options: object) -> list[str]:
    """The command, with an option for every value that is neither None nor False; `a_b=1` is `--a-b 1`."""
    command = [python, "-m", MODULE, model, data]
    for name, value in options.items():
        if value is not None and value is not False:
            command += [f"--{name.replace('_', '-')}"] if value is True else [f"--{name.replace('_', '-')}", str(value)]
    return command


def run(python: str | None, model: str, data: str, **options: object) -> int:
    """Evaluate in this interpreter or another one, which writes to this process's streams; returns its exit code.

    Raises PlanError for an interpreter that cannot.
    """
    if python is not None:
        _require(python)
    done = subprocess.run(words(python or sys.executable, model, data, **options), check=False)
    return done.returncode if done.returncode >= 0 else 128 - done.returncode  # as a shell tells a signal


def _require(python: str) -> None:
    place = f"interpreter {python}"
    if shutil.which(python) is None:
        raise PlanError([Problem(place, "no such program, expected a Python", "give the path of `bin/python`")])
    try:
        argv = [python, "-c", f"import {MODULE}"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_ANSWER_SECONDS, check=False)
        trouble = (done.stderr.strip().splitlines() or ["no word"])[-1] if done.returncode else None
    except (OSError, subprocess.TimeoutExpired) as error:
        trouble = str(error)
    if trouble is not None:
        text = f"cannot evaluate: {trouble}"
        raise PlanError([Problem(place, text, f"install stepladder[train] there: {python} -m pip install ...")])
