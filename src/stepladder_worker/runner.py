"""Run the user's script as Python itself would: same argv, same sys.path, same `__main__`."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path


def run_script(argv: list[str]) -> None:
    """Run `["train.py", args...]` or `["-m", "package.module", args...]`.

    The archive of the worker moves to the end of `sys.path`: the script's folder (or, for `-m`, the working
    directory) comes first, as without Stepladder.
    """
    archive = sys.path.pop(0)
    if argv[0] == "-m":
        sys.path.insert(0, str(Path.cwd()))
        sys.path.append(archive)
        sys.argv = argv[1:]
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(argv[0]).resolve().parent))
        sys.path.append(archive)
        sys.argv = list(argv)
        runpy.run_path(argv[0], run_name="__main__")
