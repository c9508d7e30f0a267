"""Facts about an interpreter and the scripts it is to run, without importing or running any of them.

Also sent as source text to a stage's own interpreter (`python -c`), where Stepladder is not installed: standard
library only, Python 3.10 and newer. Reads a JSON list of scripts on stdin, prints `inspect_scripts` as JSON.
"""

from __future__ import annotations

import difflib
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import pkgutil
import platform
import sys
import warnings
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "accelerate")


def inspect_scripts(scripts: list[str]) -> dict[str, Any]:
    """Versions of this interpreter, and for each script why it cannot run.

    Returns `{"versions": {package: version or None}, "scripts": {script: [place, reason] or None}}`; `place` is the
    `file:line` of a syntax error, or the script itself.
    """
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {"versions": versions, "scripts": {script: _trouble(script) for script in scripts}}


def _trouble(script: str) -> list[str] | None:
    if not script.startswith("module:"):
        return _compile(script, Path(script))
    try:
        found = _locate(script[len("module:") :])
    except LookupError as error:
        return [script, str(error)]
    return None if found is None else _compile(script, found)


def _compile(script: str, path: Path) -> list[str] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except FileNotFoundError:
        return [script, "no such file"]
    except OSError as error:
        return [script, f"cannot be read ({error.strerror})"]
    except SyntaxError as error:
        return [f"{path}:{error.lineno}", f"syntax error: {error.msg}"]
    except ValueError as error:
        return [str(path), f"not Python source: {error}"]
    return None


def _locate(module: str) -> Path | None:
    """The source file of `module` as `-m` runs it; None when it has no source. Raises LookupError without one.

    `importlib.util.find_spec` would import the parents of a dotted name, and with them torch; the finders are asked
    step by step instead.
    """
    parts = module.split(".")
    spec = _top_level(parts[0])
    for depth in range(2, len(parts) + 1):
        spec = _below(spec, ".".join(parts[:depth]))
    if spec is not None and spec.submodule_search_locations is not None:
        spec = _below(spec, f"{module}.__main__")
    if spec is None:
        raise LookupError(f"no module `{module}` in this interpreter{_alike(parts)}")
    return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None


def _alike(parts: list[str]) -> str:
    """`, did you mean `x.y`?` where the parents are there and have a module of a like name."""
    spec = _top_level(parts[0])
    for depth in range(2, len(parts)):
        spec = _below(spec, ".".join(parts[:depth]))
    if len(parts) == 1 or spec is None or spec.submodule_search_locations is None:
        return ""
    known = [found.name for found in pkgutil.iter_modules(list(spec.submodule_search_locations))]
    close = difflib.get_close_matches(parts[-1], known, n=1)
    return f", did you mean `{'.'.join([*parts[:-1], *close])}`?" if close else ""


def _top_level(name: str) -> importlib.machinery.ModuleSpec | None:
    # The worker puts the working directory first, as `python -m` does.
    here = importlib.machinery.PathFinder.find_spec(name, [str(Path.cwd())])
    if here is not None and here.origin is not None:
        return here
    try:
        return importlib.util.find_spec(name)
    except ValueError:
        return None


def _below(parent: importlib.machinery.ModuleSpec | None, name: str) -> importlib.machinery.ModuleSpec | None:
    if parent is None or parent.submodule_search_locations is None:
        return None
    return importlib.machinery.PathFinder.find_spec(name, parent.submodule_search_locations)


if __name__ == "__main__":
    json.dump(inspect_scripts(json.load(sys.stdin)), sys.stdout)
