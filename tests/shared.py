"""What takes long to make and several tests need: made once for all test processes, copied for each."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder with what `make` makes in one that it is given.

    The first test process that asks makes it, the others wait for it; each has a copy of its own, so that a command
    that runs in it meets no other. Hard links within stay what they are, and files their modes.
    """
    own = factory.getbasetemp()
    folder = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    made, done = folder / name, folder / f"{name}.done"
    with FileLock(folder / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir()
            make(made)
            done.touch()
    copy = factory.mktemp("shared") / name
    subprocess.run(["cp", "-a", str(made), str(copy)], check=True)
    return copy
