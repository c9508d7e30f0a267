"""Interpreters with older versions of transformers, as `make test-versions` builds them. A missing one is a failure."""

from __future__ import annotations

import subprocess

from support import ROOT

VERSIONS = ("4.46", "4.49")

_WHO = "import importlib.util, transformers as t; print(t.__version__, importlib.util.find_spec('stepladder'))"


def interpreter(version: str) -> str:
    """The Python of `.venv-transformers-VERSION`, which holds that transformers and no Stepladder."""
    path = ROOT / f".venv-transformers-{version}/bin/python"
    assert path.exists(), f"{path} is missing: make test-versions builds it"
    said = subprocess.run([str(path), "-c", _WHO], capture_output=True, text=True, check=True, cwd="/").stdout.split()
    assert said[0].startswith(f"{version}."), said
    assert said[1] == "None", "the worker must come as one file, not installed"
    return str(path)
